"""Addresses, routes, rules, neighbours and links of this node, through rtnetlink."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from testbed.mobileip.io import rtnetlink
from testbed.mobileip.io.changes import (
    BLACKHOLE,
    FAMILY,
    FRA_DST,
    FRA_IIFNAME,
    FRA_PRIORITY,
    FRA_PROTOCOL,
    FRA_SRC,
    FRA_TABLE,
    GONE,
    NDA_DST,
    NUD_PERMANENT,
    PROTOCOL,
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTA_SRC,
    RTA_TABLE,
    Batch,
    Change,
    Rule,
    index,
)  # fmt: skip
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.rtnetlink import (
    ADDRESS,
    CREATE,
    EXCLUSIVE,
    LINK,
    NEIGHBOUR,
    REPLACE,
    ROUTE,
    Rtnetlink,
    attributes,
    error_name,
    integer,
    packed,
)  # fmt: skip
from testbed.mobileip.io.sources import SourceFilters
from testbed.mobileip.wire.value import value

_UP = 1
_ZEROS = (0,) * 8
_MPLS_IN_IP = 137
# Attributes, from linux/if_link.h, if_tunnel.h and if_addr.h.
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _INFO_KIND, _INFO_DATA = 3, 4, 18, 1, 2
_TUNNEL = {"ipip": (2, 3, 4, 5, 10), "gre": (6, 7, 8, 9, 10)}
"""Local and remote end, TTL, TOS, path MTU discovery."""
_IPTUN_LINK, _IPTUN_PROTO = 1, 9
_VTI_LOCAL, _VTI_REMOTE = 4, 5
_VXLAN_ID, _VXLAN_LOCAL, _VXLAN_LEARNING, _VXLAN_PORT, _VXLAN_REMOTE_CHECKSUM = 1, 4, 7, 15, 22
_IFLA_ADDRESS, _IFLA_AF_SPEC, _AF_INET, _INET_CONF = 1, 26, 2, 1
_DEVCONF_FORWARDING, _DEVCONF_RP_FILTER, _DEVCONF_ACCEPT_LOCAL = 1, 8, 23
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4


@value
class Hop:
    """Where packets to some address leave this node."""

    interface: str
    gateway: IPv4Address | None
    mtu: int


class Netlink(SourceFilters):
    """Changes that are carried out at once, and questions; every method raises NodeError on refusal."""

    def __init__(self, protocol: int = PROTOCOL) -> None:
        super().__init__(protocol)
        self._socket = Rtnetlink()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def batch(self) -> Batch:
        """A batch of changes to be collected."""
        return Batch(self._protocol, self._socket)

    def _change(
        self, what: object, kind: int, flags: int, body: bytes, tolerated: frozenset[int] = frozenset()
    ) -> None:
        change = Change(what, (kind, flags, body), tolerated)
        (error,) = self._socket.change([change.message])
        if (refusal := change.refused(error)) is not None:
            raise refusal

    def _dump(self, what: str, kind: int, body: bytes) -> list[bytes]:
        try:
            return self._socket.dump(kind, body)
        except OSError as error:
            raise NodeError(f"{what}: {error_name(error.errno or 0)}") from error

    # -- links and addresses -----------------------------------------------------------------------------

    def set_link(self, interface: str, *, up: bool | None = None, mtu: int | None = None) -> None:
        """Set a link up or down, or its MTU."""
        flags, mask = (0, 0) if up is None else (_UP if up else 0, _UP)
        body = LINK.pack(0, 0, index(interface), flags, mask)
        body += packed({} if mtu is None else {_IFLA_MTU: mtu})
        self._change(f"link {interface}", rtnetlink.NEW_LINK, 0, body)

    def _add_link(self, kind: str, interface: str, values: rtnetlink.Values, data: rtnetlink.Values) -> None:
        info = packed({_INFO_KIND: kind, _INFO_DATA: packed(data)})
        body = LINK.pack(0, 0, 0, 0, 0) + packed({_IFLA_IFNAME: interface, **values, _IFLA_LINKINFO: info})
        self._change(f"{kind} {interface}", rtnetlink.NEW_LINK, CREATE | EXCLUSIVE, body)

    def add_tunnel(
        self, kind: str, interface: str, local: IPv4Address, remote: IPv4Address, mtu: int
    ) -> None:
        """Create an `ipip` or `gre` device, which is down; TOS is copied from the inner header.

        DF is always set: with a TTL of its own a device has no choice. The kernel learns the path's MTU.

        Checksums and segmentation are left to the links behind it: a virtual link carries such packets as
        they are, and a process at the other end takes them (`tunnel.superpackets`).
        """
        values: tuple[rtnetlink.Value, ...] = (local, remote, bytes((64,)), b"\1", b"\1")
        data = zip(_TUNNEL[kind], values, strict=True)
        self._add_link(kind, interface, {_IFLA_MTU: mtu}, dict(data))

    def add_ipip_sink(self, interface: str) -> None:
        """Create a device that takes the IP-in-IP packets no other takes, and drops them without an answer.

        The device is for MPLS in IP, and the kernel drops what a device is not for. Its binding to the
        loopback device distinguishes it from the kernel's own `tunl0`; it takes packets from
        everywhere all the same.
        """
        data: rtnetlink.Values = {_IPTUN_LINK: index("lo"), _IPTUN_PROTO: bytes((_MPLS_IN_IP,))}
        self._add_link("ipip", interface, {}, data)
        self.set_link(interface, up=True)

    def add_vxlan(self, interface: str, identifier: int, port: int, address: bytes) -> None:
        """Create a VXLAN device with a link address, and forward what arrives, also from our own addresses.

        It has no other end. A frame may say where a checksum is unfinished (remote checksum offload).
        """
        data: rtnetlink.Values = {
            _VXLAN_ID: identifier,
            _VXLAN_LOCAL: IPv4Address("127.0.0.1"),
            _VXLAN_LEARNING: b"\0",
            _VXLAN_PORT: port.to_bytes(2, "big"),
            _VXLAN_REMOTE_CHECKSUM: b"\1",
        }
        self._add_link("vxlan", interface, {_IFLA_ADDRESS: address}, data)
        self._configure(interface, {_DEVCONF_FORWARDING: 1, _DEVCONF_RP_FILTER: 0, _DEVCONF_ACCEPT_LOCAL: 1})
        self.set_link(interface, up=True)

    def filter_reverse_path(self, interface: str, on: bool) -> None:
        """Accept from a link only what would be routed back into it (RFC 3704 §2.2, strict), or anything."""
        self._configure(interface, {_DEVCONF_RP_FILTER: int(on)})

    def _configure(self, interface: str, values: rtnetlink.Values) -> None:
        """Set what the sysctls net.ipv4.conf of a link are for, which a container may not write."""
        conf = packed({_AF_INET: packed({_INET_CONF: packed(values)})})
        body = LINK.pack(0, 0, index(interface), 0, 0) + packed({_IFLA_AF_SPEC: conf})
        self._change(f"settings of {interface}", rtnetlink.NEW_LINK, 0, body)

    def delete_link(self, interface: str) -> None:
        """Delete a device."""
        with suppress(OSError):
            body = LINK.pack(0, 0, socket.if_nametoindex(interface), 0, 0)
            self._change(f"link {interface}", rtnetlink.DELETE_LINK, 0, body, GONE)

    def mtu(self, interface: str) -> int:
        """The MTU of a link."""
        try:
            answer = self._socket.ask(rtnetlink.GET_LINK, LINK.pack(0, 0, index(interface), 0, 0))
        except OSError as error:
            raise NodeError(f"link {interface}: {error_name(error.errno or 0)}") from error
        return integer(attributes(answer[LINK.size :])[_IFLA_MTU])

    def ipsec_ends(self) -> list[tuple[IPv4Address, IPv4Address]]:
        """Ours and theirs of every virtual tunnel interface of the kernel's IPsec (VTI); 0.0.0.0 is any."""
        found = []
        for each in self._dump("links", rtnetlink.GET_LINK, LINK.pack(0, 0, 0, 0, 0)):
            info = attributes(attributes(each[LINK.size :]).get(_IFLA_LINKINFO, b""))
            if info.get(_INFO_KIND, b"").rstrip(b"\0") == b"vti":
                data = attributes(info[_INFO_DATA])
                found.append((IPv4Address(data[_VTI_LOCAL]), IPv4Address(data[_VTI_REMOTE])))
        return found

    def addresses(self) -> list[tuple[str, IPv4Interface]]:
        """Every IPv4 address of this node with its interface."""
        found = []
        for each in self._dump("addresses", rtnetlink.GET_ADDRESS, ADDRESS.pack(FAMILY, 0, 0, 0, 0)):
            _, length, _, _, number = ADDRESS.unpack_from(each)
            values = attributes(each[ADDRESS.size :])
            with suppress(OSError):  # the link has gone meanwhile
                name = socket.if_indextoname(number)
                local = values.get(_IFA_LOCAL) or values[_IFA_ADDRESS]
                found.append((name, IPv4Interface((local, length))))
        return found

    def add_address(
        self, interface: str, address: IPv4Interface, broadcast: IPv4Address | None = None
    ) -> None:
        """Give an interface an address; what comes to `broadcast` is for this node, too."""
        more: rtnetlink.Values = {} if broadcast is None else {_IFA_BROADCAST: broadcast}
        body = _address(index(interface), address, more)
        what = f"address {address} on {interface}"
        self._change(what, rtnetlink.NEW_ADDRESS, CREATE | REPLACE, body)

    def delete_address(self, interface: str, address: IPv4Interface) -> None:
        """Take an address from an interface."""
        with suppress(OSError):
            body = _address(socket.if_nametoindex(interface), address, {})
            what = f"address {address} on {interface}"
            self._change(what, rtnetlink.DELETE_ADDRESS, 0, body, GONE)

    # -- routes, rules and neighbours --------------------------------------------------------------------

    def gateways(self, table: int) -> list[tuple[str, IPv4Address]]:
        """Interface and gateway of every route of ours in a table that has one."""
        found = []
        for _, where, values in self._routes():
            if where == table and RTA_GATEWAY in values:
                with suppress(OSError):  # the link has gone meanwhile
                    name = socket.if_indextoname(integer(values[RTA_OIF]))
                    found.append((name, IPv4Address(values[RTA_GATEWAY])))
        return found

    def _routes(self) -> list[tuple[IPv4Network, int, rtnetlink.Attributes]]:
        """Our routes: destination, table, and more."""
        found = []
        for each in self._dump("routes", rtnetlink.GET_ROUTE, ROUTE.pack(FAMILY, *_ZEROS)):
            _, length, _, _, _, protocol, *_ = ROUTE.unpack_from(each)
            if protocol == self._protocol:
                values = attributes(each[ROUTE.size :])
                destination = IPv4Network((values.get(RTA_DST, bytes(4)), length))
                found.append((destination, integer(values[RTA_TABLE]), values))
        return found

    def hop(self, destination: IPv4Address, source: IPv4Address) -> Hop | None:
        """Where a packet from `source` (an address of ours) to `destination` leaves; None if nowhere."""
        body = ROUTE.pack(FAMILY, 32, 32, *(0,) * 6) + packed({RTA_DST: destination, RTA_SRC: source})
        try:
            values = attributes(self._socket.ask(rtnetlink.GET_ROUTE, body)[ROUTE.size :])
            interface = socket.if_indextoname(integer(values[RTA_OIF]))
        except OSError as error:
            if error.errno in (*GONE, errno.EINVAL):
                return None
            what = f"route to {destination} from {source}"
            raise NodeError(f"{what}: {error_name(error.errno or 0)}") from error
        gateway = values.get(RTA_GATEWAY)
        return Hop(interface, IPv4Address(gateway) if gateway else None, self.mtu(interface))

    def clean(self) -> None:
        """Remove every route and rule of ours: what a killed predecessor left."""
        batch = self.batch()
        for destination, table, _ in self._routes():
            batch.delete_route(destination, table=table)
        for each in self._dump("rules", rtnetlink.GET_RULE, ROUTE.pack(FAMILY, *_ZEROS)):
            values = attributes(each[ROUTE.size :])
            if values.get(FRA_PROTOCOL) == bytes((self._protocol,)):
                batch.delete_rule(_dumped(each, values))
        for refusal in batch.commit():
            if refusal is not None:
                raise refusal

    def fixed_neighbours(self, interface: str) -> list[IPv4Address]:
        """The neighbours on a link whose link-layer address is fixed."""
        here, found = index(interface), []
        for each in self._dump("neighbours", rtnetlink.GET_NEIGHBOUR, NEIGHBOUR.pack(FAMILY, 0, 0, 0, 0)):
            _, number, state, _, _ = NEIGHBOUR.unpack_from(each)
            if (number, state) == (here, NUD_PERMANENT):
                found.append(IPv4Address(attributes(each[NEIGHBOUR.size :])[NDA_DST]))
        return found


def _dumped(message: bytes, values: rtnetlink.Attributes) -> Rule:
    _, _, source_length, *_, action, _ = ROUTE.unpack_from(message)
    source, destination = values.get(FRA_SRC), values.get(FRA_DST)
    name = values.get(FRA_IIFNAME)
    return Rule(
        integer(values.get(FRA_PRIORITY, b"")),
        None if action == BLACKHOLE else integer(values[FRA_TABLE]),
        None if source is None else IPv4Network((source, source_length)),
        None if destination is None else IPv4Address(destination),
        None if name is None else name.rstrip(b"\0").decode(),
    )


def _address(number: int, address: IPv4Interface, more: rtnetlink.Values) -> bytes:
    head = ADDRESS.pack(FAMILY, address.network.prefixlen, 0, 0, number)
    return head + packed({_IFA_LOCAL: address.ip, _IFA_ADDRESS: address.ip, **more})
