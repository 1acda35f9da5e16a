"""Addresses, routes, rules, neighbours and links of this node, through rtnetlink.

Everything may be asked for twice: what is there already is left or replaced, what is gone already stays
gone. All routes and rules of a daemon carry its protocol, by which a killed predecessor's are known.
The library is imported when the socket is opened, because that takes longer than all the rest of the start.
"""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from testbed.mobileip.io.errors import NodeError

PROTOCOL = 143
"""`proto` of a daemon's routes and rules, by default: one of those left to routing daemons (rtnetlink(7))."""
MAIN = 254
BLACKHOLE = "blackhole"
DEFAULT = IPv4Network("0.0.0.0/0")

_FAMILY = socket.AF_INET
_LINK_SCOPE, _ANY_SCOPE = 253, 255
_ONLINK = 4
_NTF_PROXY = 8
_MPLS_IN_IP = 137
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
_NUD_PERMANENT = 0x80
_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENETUNREACH})


def _checksum_in_software(interface: str) -> None:
    """`ethtool -K … tx off`; segmentation offload goes with it."""
    request = array.array("I", (_ETHTOOL_STXCSUM, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        wanted = struct.pack("16sP16x", interface.encode(), request.buffer_info()[0])
        try:
            fcntl.ioctl(any_socket, _SIOCETHTOOL, wanted)
        except OSError as error:
            raise NodeError(f"checksums of {interface}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the routing policy; `table` None means blackhole."""

    preference: int
    table: int | None
    source: IPv4Address | IPv4Network | None = None
    destination: IPv4Address | None = None
    interface: str | None = None
    """The incoming interface; the rule works, and stays, also while there is none of that name."""


@dataclass(frozen=True, slots=True)
class Hop:
    """Where packets to some address leave this node."""

    interface: str
    gateway: IPv4Address | None
    mtu: int


def index(interface: str) -> int:
    """The index of an interface; raises NodeError when there is none of that name."""
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        raise NodeError(f"there is no interface {interface!r}") from error


class Netlink:
    """One rtnetlink socket; every method raises NodeError when the kernel refuses.

    `protocol` marks what is made here: no two daemons of a node have the same.
    """

    def __init__(self, protocol: int = PROTOCOL) -> None:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        self._ip: Any = IPRoute()
        self._protocol = protocol
        self._refusal: type[Exception] = NetlinkError

    def close(self) -> None:
        """Close the socket."""
        self._ip.close()

    @contextmanager
    def _about(self, what: str, *tolerated: int) -> Iterator[None]:
        try:
            yield
        except self._refusal as error:
            number = getattr(error, "code", 0)
            if number not in tolerated:
                raise NodeError(f"{what}: {errno.errorcode.get(number, number)}") from error

    # -- links and addresses -----------------------------------------------------------------------------

    def set_link(self, interface: str, *, up: bool | None = None, mtu: int | None = None) -> None:
        """Set a link up or down, or its MTU."""
        changes: dict[str, Any] = {} if up is None else {"state": "up" if up else "down"}
        if mtu is not None:
            changes["mtu"] = mtu
        with self._about(f"link {interface}"):
            self._ip.link("set", index=index(interface), **changes)

    def add_tunnel(
        self, kind: str, interface: str, local: IPv4Address, remote: IPv4Address, mtu: int
    ) -> None:
        """Create an `ipip` or `gre` device and set it up; TOS is copied from the inner header.

        DF is always set: with a TTL of its own a device has no choice. The kernel learns the path's MTU.

        Whole packets go into it, with their checksums: a virtual link carries what is left to hardware as it
        is, and where a process takes it out of the tunnel nobody makes up for it.
        """
        fields = {"local": str(local), "remote": str(remote), "ttl": 64, "tos": 1, "pmtudisc": 1}
        with self._about(f"{kind} {interface}"):
            self._ip.link(
                "add", ifname=interface, kind=kind, mtu=mtu,
                **{f"{kind}_{name}": value for name, value in fields.items()},
            )  # fmt: skip
            _checksum_in_software(interface)
        self.set_link(interface, up=True)

    def add_ipip_sink(self, interface: str) -> None:
        """Create a device that takes the IP-in-IP packets no other takes, and drops them without an answer.

        The device is for MPLS in IP, and the kernel drops what a device is not for. Its binding to the
        loopback device distinguishes it from the kernel's own `tunl0`; it takes packets from
        everywhere all the same.
        """
        with self._about(f"ipip {interface}"):
            self._ip.link(
                "add", ifname=interface, kind="ipip", ipip_link=index("lo"), ipip_proto=_MPLS_IN_IP
            )  # fmt: skip
        self.set_link(interface, up=True)

    def delete_link(self, interface: str) -> None:
        """Delete a device."""
        with suppress(OSError), self._about(f"link {interface}", *_GONE):
            self._ip.link("del", index=socket.if_nametoindex(interface))

    def mtu(self, interface: str) -> int:
        """The MTU of a link."""
        with self._about(f"link {interface}"):
            links = list(self._ip.get_links(index(interface)))
            return int(links[0].get_attr("IFLA_MTU"))
        raise AssertionError

    def addresses(self) -> list[tuple[str, IPv4Interface]]:
        """Every IPv4 address of this node with its interface."""
        found = []
        with self._about("addresses"):
            for message in self._ip.get_addr(family=_FAMILY):
                local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
                with suppress(OSError):  # the link has gone meanwhile
                    name = socket.if_indextoname(message["index"])
                    found.append((name, IPv4Interface(f"{local}/{message['prefixlen']}")))
        return found

    def add_address(
        self, interface: str, address: IPv4Interface, broadcast: IPv4Address | None = None
    ) -> None:
        """Give an interface an address; what comes to `broadcast` is for this node, too."""
        more = {} if broadcast is None else {"broadcast": str(broadcast)}
        with self._about(f"address {address} on {interface}"):
            self._ip.addr(
                "replace",
                index=index(interface),
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
                **more,
            )

    def delete_address(self, interface: str, address: IPv4Interface) -> None:
        """Take an address from an interface."""
        with suppress(OSError), self._about(f"address {address} on {interface}", *_GONE):
            self._ip.addr(
                "del",
                index=socket.if_nametoindex(interface),
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
            )

    # -- routes and rules --------------------------------------------------------------------------------

    def set_route(
        self,
        destination: IPv4Network,
        interface: str,
        *,
        table: int = MAIN,
        gateway: IPv4Address | None = None,
        source: IPv4Address | None = None,
    ) -> None:
        """Set or replace a route; `gateway` is taken to be on the link, `source` is the preferred source."""
        more: dict[str, Any] = {"scope": _LINK_SCOPE}
        if gateway is not None:
            more = {"gateway": str(gateway), "flags": _ONLINK}
        if source is not None:
            more["prefsrc"] = str(source)
        with self._about(f"route {destination} table {table}"):
            self._ip.route(
                "replace", family=_FAMILY, dst=str(destination), oif=index(interface),
                table=table, proto=self._protocol, **more,
            )  # fmt: skip

    def set_unreachable(self, destination: IPv4Network) -> None:
        """Answer what matches no better route with Host Unreachable."""
        with self._about(f"route {destination}"):
            self._ip.route(
                "replace", family=_FAMILY, dst=str(destination), type="unreachable",
                table=MAIN, proto=self._protocol, priority=0xFFFF,
            )  # fmt: skip

    def delete_route(self, destination: IPv4Network, *, table: int = MAIN) -> None:
        """Delete our route to `destination`."""
        with self._about(f"route {destination} table {table}", *_GONE):
            self._ip.route(
                "del",
                family=_FAMILY,
                dst=str(destination),
                table=table,
                proto=self._protocol,
                scope=_ANY_SCOPE,
            )

    def gateways(self, table: int) -> list[tuple[str, IPv4Address]]:
        """Interface and gateway of every route of ours in a table that has one."""
        found = []
        with self._about(f"routes of table {table}"):
            for message in list(self._ip.get_routes(family=_FAMILY, table=table)):
                gateway = message.get_attr("RTA_GATEWAY")
                if gateway is not None and message["proto"] == self._protocol:
                    with suppress(OSError):  # the link has gone meanwhile
                        name = socket.if_indextoname(message.get_attr("RTA_OIF"))
                        found.append((name, IPv4Address(gateway)))
        return found

    def hop(self, destination: IPv4Address, source: IPv4Address) -> Hop | None:
        """Where a packet from `source` (an address of ours) to `destination` leaves; None if nowhere."""
        with self._about(f"route to {destination} from {source}", *_GONE, errno.EINVAL):
            for message in self._ip.route("get", family=_FAMILY, dst=str(destination), src=str(source)):
                interface = socket.if_indextoname(message.get_attr("RTA_OIF"))
                gateway = message.get_attr("RTA_GATEWAY")
                return Hop(interface, IPv4Address(gateway) if gateway else None, self.mtu(interface))
        return None

    def _rule(self, command: str, rule: Rule) -> None:
        more: dict[str, Any] = {}
        if rule.source is not None:
            source = IPv4Network(rule.source)
            more |= {"src": str(source.network_address), "src_len": source.prefixlen}
        if rule.destination is not None:
            more |= {"dst": str(rule.destination), "dst_len": 32}
        if rule.interface is not None:
            more["iifname"] = rule.interface
        more |= {"action": BLACKHOLE} if rule.table is None else {"table": rule.table}
        self._ip.rule(command, family=_FAMILY, priority=rule.preference, protocol=self._protocol, **more)

    def add_rule(self, rule: Rule) -> None:
        """Add a rule of the routing policy."""
        with self._about(f"rule {rule}", errno.EEXIST):
            self._rule("add", rule)

    def delete_rule(self, rule: Rule) -> None:
        """Delete a rule of the routing policy."""
        with self._about(f"rule {rule}", *_GONE):
            self._rule("del", rule)

    def clean(self) -> None:
        """Remove every route and rule of ours: what a killed predecessor left."""
        with self._about("leftover routes"):
            for message in list(self._ip.get_routes(family=_FAMILY)):
                if message["proto"] == self._protocol:
                    destination = f"{message.get_attr('RTA_DST') or '0.0.0.0'}/{message['dst_len']}"
                    self.delete_route(IPv4Network(destination), table=message.get_attr("RTA_TABLE"))
        with self._about("leftover rules"):
            for message in list(self._ip.get_rules(family=_FAMILY)):
                if message.get_attr("FRA_PROTOCOL") == self._protocol:
                    self._delete_dumped(message)

    def _delete_dumped(self, message: Any) -> None:
        def address(name: str) -> IPv4Address | None:
            value = message.get_attr(name)
            return IPv4Address(value) if value else None

        table = message.get_attr("FRA_TABLE")
        preference = message.get_attr("FRA_PRIORITY") or 0
        interface = message.get_attr("FRA_IIFNAME")
        source = address("FRA_SRC")
        network = None if source is None else IPv4Network((source, message["src_len"]))
        self.delete_rule(Rule(preference, table or None, network, address("FRA_DST"), interface))

    # -- neighbours --------------------------------------------------------------------------------------

    def set_neighbour(self, interface: str, address: IPv4Address, link_address: bytes) -> None:
        """Fix the link-layer address of a neighbour: no ARP for it any more."""
        with self._about(f"neighbour {address} on {interface}"):
            self._ip.neigh(
                "replace", family=_FAMILY, dst=str(address), lladdr=link_address.hex(":"),
                ifindex=index(interface), state=_NUD_PERMANENT,
            )  # fmt: skip

    def delete_neighbour(self, interface: str, address: IPv4Address) -> None:
        """Forget a neighbour."""
        with suppress(OSError), self._about(f"neighbour {address} on {interface}", *_GONE):
            self._ip.neigh("del", family=_FAMILY, dst=str(address), ifindex=socket.if_nametoindex(interface))

    def fixed_neighbours(self, interface: str) -> list[IPv4Address]:
        """The neighbours on a link whose link-layer address is fixed."""
        with self._about(f"neighbours on {interface}"):
            return [
                IPv4Address(message.get_attr("NDA_DST"))
                for message in self._ip.get_neighbours(family=_FAMILY)
                if message["ifindex"] == index(interface) and message["state"] == _NUD_PERMANENT
            ]
        raise AssertionError

    def add_proxy(self, interface: str, address: IPv4Address) -> None:
        """Answer ARP for `address` on a link (RFC 5944 §4.6); the route to it must leave by another."""
        with self._about(f"proxy ARP for {address}", errno.EEXIST):
            self._ip.neigh(
                "add", family=_FAMILY, dst=str(address), ifindex=index(interface), flags=_NTF_PROXY
            )

    def delete_proxy(self, interface: str, address: IPv4Address) -> None:
        """Cease to answer ARP for `address` on a link."""
        with suppress(OSError), self._about(f"proxy ARP for {address}", *_GONE):
            self._ip.neigh(
                "del",
                family=_FAMILY,
                dst=str(address),
                ifindex=socket.if_nametoindex(interface),
                flags=_NTF_PROXY,
            )
