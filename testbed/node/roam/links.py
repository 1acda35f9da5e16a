"""Access links, addresses and policy routing of the mobile node, through rtnetlink.

What is ours: the state of the access links, their addresses except the home address, table 100 and the rules
at preference 40 and 41 (what charon sends, where it follows moves by itself), 50 (from the care-of address)
and 60 (from the inner address of the VPN). charon owns table 220 and the inner address; its routes through
`ipsec0` are only put back here when the kernel dropped them with a moved address. With ESP in the kernel both
are ours: charon would take the inner address off at every move and put it back, and with it go the routes.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from testbed.agreed import ESP_MARK, IPSEC_DEVICE

VISITED_TABLE = 100
FORMER_TABLE = 101
"""In turn with the other one, where a lease outlives the move to the next."""
IKE_PREFERENCE, NO_IKE_PREFERENCE = 40, 41
VISITED_PREFERENCE = 50
INNER_PREFERENCE = 60
IPSEC_TABLE = 220

_SETTLED = frozenset({errno.EEXIST, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV})
"""The change was made already, or what was to go is gone."""

_LINK_SCOPE, _ANY_SCOPE = 253, 255
_UP = 1  # IFF_UP


class LinkError(Exception):
    """The kernel refuses a change, or there is no such interface."""


@dataclass(frozen=True, slots=True)
class Lease:
    """An address obtained on an access link."""

    interface: str
    address: IPv4Interface
    router: IPv4Address | None


@contextmanager
def _quietly() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code not in _SETTLED:
            raise LinkError(str(error)) from error


class Links:
    """Changes to the node's links, addresses, routes and rules; each may be asked for twice."""

    def __init__(self, home_address: IPv4Address, esp_in_kernel: bool = False) -> None:
        """`esp_in_kernel`: charon leaves the VPN's inner address to us."""
        self._home = home_address
        self._esp_in_kernel = esp_in_kernel
        self._kernel = IPRoute()
        self._lease: Lease | None = None
        self._table = VISITED_TABLE
        self._former: tuple[Lease, int] | None = None
        self._inner: IPv4Address | None = None

    def reset(self, interfaces: Iterable[str]) -> None:
        """Undo what a predecessor may have left: access links down and without address, no rules of ours."""
        for preference in (IKE_PREFERENCE, NO_IKE_PREFERENCE, VISITED_PREFERENCE, INNER_PREFERENCE):
            with _quietly():
                self._kernel.flush_rules(family=socket.AF_INET, priority=preference)
        for table in (VISITED_TABLE, FORMER_TABLE):
            with _quietly():
                self._kernel.flush_routes(family=socket.AF_INET, table=table)
        if self._esp_in_kernel:
            self._kernel.flush_addr(family=socket.AF_INET, index=_index(IPSEC_DEVICE))
        for interface in interfaces:
            index = _index(interface)
            for address in self._kernel.get_addr(family=socket.AF_INET, index=index):
                if address.get_attr("IFA_LOCAL") != str(self._home):
                    with _quietly():
                        self._kernel.addr(
                            "del",
                            index=index,
                            address=address.get_attr("IFA_LOCAL"),
                            prefixlen=address["prefixlen"],
                        )
            self.down(interface)

    def down(self, interface: str) -> None:
        """Leave a link."""
        with _quietly():
            self._kernel.link("set", index=_index(interface), state="down")

    def up(self, interface: str) -> None:
        """Join a link."""
        with _quietly():
            self._kernel.link("set", index=_index(interface), state="up")

    def is_up(self, interface: str) -> bool:
        """Whether a link is joined, by whomever. Raises LinkError."""
        with _quietly():
            (link,) = self._kernel.get_links(_index(interface))
            return bool(link["flags"] & _UP)
        return False

    def use_lease(self, lease: Lease) -> None:
        """Put the address on its interface, and let packets from it leave by its router."""
        self.drop_lease()
        index = _index(lease.interface)
        address = str(lease.address.ip)
        self._lease = lease
        with _quietly():
            self._kernel.addr("add", index=index, address=address, prefixlen=lease.address.network.prefixlen)
        with _quietly():
            self._kernel.route(
                "replace", dst=str(lease.address.network), oif=index, scope=_LINK_SCOPE, table=self._table
            )
        if lease.router is not None:
            with _quietly():
                self._kernel.route(
                    "replace", dst="0.0.0.0/0", oif=index, gateway=str(lease.router), table=self._table
                )
        with _quietly():
            self._kernel.rule("add", src=address, src_len=32, table=self._table, priority=VISITED_PREFERENCE)

    def drop_lease(self, *, routes: bool = True) -> None:
        """Remove the address, its rule and its routes; these the kernel drops when the link goes down."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._drop(lease, self._table, routes)

    def keep_lease(self) -> None:
        """Let address, rule and routes be until `drop_former`; the next lease has another table."""
        if self._lease is not None:
            self._former, self._lease = (self._lease, self._table), None
            self._table = FORMER_TABLE if self._table == VISITED_TABLE else VISITED_TABLE

    def drop_former(self) -> None:
        """Remove what `keep_lease` has kept."""
        former, self._former = self._former, None
        if former is not None:
            self._drop(*former, routes=True)

    def _drop(self, lease: Lease, table: int, routes: bool) -> None:
        address = str(lease.address.ip)
        with _quietly():
            self._kernel.rule("del", src=address, src_len=32, table=table, priority=VISITED_PREFERENCE)
        for destination in ("0.0.0.0/0", str(lease.address.network)) if routes else ():
            with _quietly():
                self._kernel.route("del", dst=destination, scope=_ANY_SCOPE, table=table)
        with _quietly():
            self._kernel.addr(
                "del",
                index=_index(lease.interface),
                address=address,
                prefixlen=lease.address.network.prefixlen,
            )

    def keep_ike_outside(self) -> None:
        """Let charon find no way but that of the care-of address, and no address but that.

        It would take the home address, which the tunnel of Mobile IP has, for a way to the gateway.
        """
        with _quietly():
            self._kernel.rule("add", fwmark=ESP_MARK, table=VISITED_TABLE, priority=IKE_PREFERENCE)
        with _quietly():
            self._kernel.rule("add", fwmark=ESP_MARK, action="unreachable", priority=NO_IKE_PREFERENCE)

    def use_inner(self, address: IPv4Address | None) -> None:
        """Send packets from the VPN's inner address into IPsec; None: there is none any more."""
        if address == self._inner:
            return
        for action, source in (("del", self._inner), ("add", address)):
            if source is not None:
                if self._esp_in_kernel:
                    with _quietly():
                        self._kernel.addr(
                            action, index=_index(IPSEC_DEVICE), address=str(source), prefixlen=32
                        )
                with _quietly():
                    self._kernel.rule(
                        action, src=str(source), src_len=32, table=IPSEC_TABLE, priority=INNER_PREFERENCE
                    )
        self._inner = address

    def steer(self, prefixes: Iterable[IPv4Network], source: IPv4Address, into_ipsec: bool) -> None:
        """Route `prefixes` from `source` into IPsec, or past it while the security association stays up."""
        try:
            index = _index(IPSEC_DEVICE)
        except LinkError:
            return  # no IPsec here, nothing to steer
        for prefix in prefixes:
            with _quietly():
                if into_ipsec:
                    self._kernel.route(
                        "replace", dst=str(prefix), oif=index, prefsrc=str(source), table=IPSEC_TABLE
                    )
                else:
                    self._kernel.route("del", dst=str(prefix), oif=index, scope=_ANY_SCOPE, table=IPSEC_TABLE)


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        raise LinkError(f"there is no interface {interface!r}") from error
