"""Changes of routes, rules and neighbours: one at a time, or many in one system call.

Everything may be asked for twice: what is there already is left or replaced, what is gone already stays
gone. All routes and rules of a daemon carry its protocol, by which a killed predecessor's are known.
"""

from __future__ import annotations

import errno
import socket
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network

from testbed.mobileip.io import rtnetlink
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.rtnetlink import (
    ATTRIBUTE,
    CREATE,
    EXCLUSIVE,
    NEIGHBOUR,
    REPLACE,
    ROUTE,
    Rtnetlink,
    error_name,
    packed,
)
from testbed.mobileip.wire.value import value

PROTOCOL = 143
"""`proto` of a daemon's routes and rules, by default: one of those left to routing daemons (rtnetlink(7))."""
MAIN = 254
DEFAULT = IPv4Network("0.0.0.0/0")
TO_TABLE, BLACKHOLE = 1, 6
"""Actions of rules."""
GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENETUNREACH})
"""Errors of what is gone already."""
_THERE = frozenset({errno.EEXIST})

FAMILY = socket.AF_INET
NUD_PERMANENT = 0x80
_NTF_PROXY = 8
_LINK_SCOPE, _HOST_SCOPE, _ANY_SCOPE = 253, 254, 255
_UNICAST, _LOCAL, _UNREACHABLE, _ANY_TYPE = 1, 2, 7, 0
_LOCAL_TABLE = 255
_ONLINK = 4
# Attributes, from linux/rtnetlink.h, fib_rules.h and neighbour.h.
RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_TABLE = 1, 2, 4, 5, 15
_RTA_PRIORITY, _RTA_PREFSRC = 6, 7
FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_TABLE, FRA_PROTOCOL = 1, 2, 3, 6, 15, 21
NDA_DST, _NDA_LLADDR = 1, 2


@value
class Rule:
    """A rule of the routing policy; `table` None means blackhole."""

    preference: int
    table: int | None
    source: IPv4Address | IPv4Network | None = None
    destination: IPv4Address | None = None
    interface: str | None = None
    """The incoming interface; the rule works, and stays, also while there is none of that name."""


def index(interface: str) -> int:
    """The index of an interface; raises NodeError when there is none of that name."""
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        raise NodeError(f"there is no interface {interface!r}") from error


@value
class _Route:
    """What a change of a route is about."""

    destination: IPv4Network | IPv4Address
    table: int

    def __str__(self) -> str:
        return f"route {IPv4Network(self.destination)} table {self.table}"


@value
class Change:
    """One change, and which refusals are none."""

    what: object
    """Its text is for people, when the kernel refuses."""
    message: rtnetlink.Message
    tolerated: frozenset[int]

    def refused(self, error: int) -> NodeError | None:
        """What the error number that the kernel answers means; None for a success."""
        return (
            None if not error or error in self.tolerated else NodeError(f"{self.what}: {error_name(error)}")
        )


class Changes(ABC):
    """What can be changed: routes, rules, neighbours and proxies; a subclass says when that happens.

    `protocol` marks the routes and rules: no two daemons of a node have the same.
    """

    def __init__(self, protocol: int) -> None:
        self._protocol = protocol

    @abstractmethod
    def _change(
        self, what: object, kind: int, flags: int, body: bytes, tolerated: frozenset[int] = frozenset()
    ) -> None:
        """Take a change; raises NodeError where it is refused at once."""

    def _index(self, interface: str) -> int:
        return index(interface)

    def set_route(
        self,
        destination: IPv4Network | IPv4Address,
        interface: str,
        *,
        table: int = MAIN,
        gateway: IPv4Address | None = None,
        source: IPv4Address | None = None,
    ) -> None:
        """Set or replace a route to a prefix or a host.

        `gateway` is taken to be on the link, `source` is the preferred source.
        """
        values = (RTA_OIF, self._index(interface)), (RTA_GATEWAY, gateway), (_RTA_PREFSRC, source)
        scope, flags = (_LINK_SCOPE, 0) if gateway is None else (0, _ONLINK)
        body = _route(self._protocol, destination, table, scope, _UNICAST, flags, values)
        self._change(_Route(destination, table), rtnetlink.NEW_ROUTE, CREATE | REPLACE, body)

    def set_unreachable(self, destination: IPv4Network) -> None:
        """Answer what matches no better route with Host Unreachable."""
        body = _route(self._protocol, destination, MAIN, 0, _UNREACHABLE, 0, ((_RTA_PRIORITY, 0xFFFF),))
        self._change(f"route {destination}", rtnetlink.NEW_ROUTE, CREATE | REPLACE, body)

    def set_local(self, prefix: IPv4Network) -> None:
        """Take all addresses of a prefix for addresses of this node, as if an interface had each of them."""
        values = ((RTA_OIF, self._index("lo")),)
        body = _route(self._protocol, prefix, _LOCAL_TABLE, _HOST_SCOPE, _LOCAL, 0, values)
        self._change(f"local {prefix}", rtnetlink.NEW_ROUTE, CREATE | REPLACE, body)

    def delete_route(self, destination: IPv4Network | IPv4Address, *, table: int = MAIN) -> None:
        """Delete our route to `destination`."""
        body = _route(self._protocol, destination, table, _ANY_SCOPE, _ANY_TYPE, 0, ())
        self._change(_Route(destination, table), rtnetlink.DELETE_ROUTE, 0, body, GONE)

    def add_rule(self, rule: Rule) -> None:
        """Add a rule of the routing policy."""
        self._change(
            f"rule {rule}", rtnetlink.NEW_RULE, CREATE | EXCLUSIVE, _rule(self._protocol, rule), _THERE
        )

    def delete_rule(self, rule: Rule) -> None:
        """Delete a rule of the routing policy."""
        self._change(f"rule {rule}", rtnetlink.DELETE_RULE, 0, _rule(self._protocol, rule), GONE)

    def set_neighbour(self, interface: str, address: IPv4Address, link_address: bytes) -> None:
        """Fix the link-layer address of a neighbour: no ARP for it any more."""
        body = NEIGHBOUR.pack(FAMILY, self._index(interface), NUD_PERMANENT, 0, 0)
        body += packed({NDA_DST: address, _NDA_LLADDR: link_address})
        what = f"neighbour {address} on {interface}"
        self._change(what, rtnetlink.NEW_NEIGHBOUR, CREATE | REPLACE, body)

    def delete_neighbour(self, interface: str, address: IPv4Address) -> None:
        """Forget a neighbour."""
        self._delete_neighbour(interface, address, 0)

    def add_proxy(self, interface: str, address: IPv4Address) -> None:
        """Answer ARP for `address` on a link (RFC 5944 §4.6); the route to it must leave by another."""
        body = NEIGHBOUR.pack(FAMILY, self._index(interface), 0, _NTF_PROXY, 0) + packed({NDA_DST: address})
        what = f"proxy ARP for {address}"
        self._change(what, rtnetlink.NEW_NEIGHBOUR, CREATE | EXCLUSIVE, body, _THERE)

    def delete_proxy(self, interface: str, address: IPv4Address) -> None:
        """Cease to answer ARP for `address` on a link."""
        self._delete_neighbour(interface, address, _NTF_PROXY)

    def _delete_neighbour(self, interface: str, address: IPv4Address, flags: int) -> None:
        with suppress(NodeError):  # the link has gone, and its neighbours with it
            body = NEIGHBOUR.pack(FAMILY, self._index(interface), 0, flags, 0) + packed({NDA_DST: address})
            what = f"neighbour {address} on {interface}"
            self._change(what, rtnetlink.DELETE_NEIGHBOUR, 0, body, GONE)


class Batch(Changes):
    """Changes that the kernel carries out in order, all in one system call; it may refuse some of them."""

    def __init__(self, protocol: int, socket: Rtnetlink) -> None:
        super().__init__(protocol)
        self._socket = socket
        self._changes: list[Change] = []
        self._indices: dict[str, int] = {}

    def __len__(self) -> int:
        """How many changes there are."""
        return len(self._changes)

    def _index(self, interface: str) -> int:
        found = self._indices.get(interface)
        if found is None:
            found = self._indices[interface] = index(interface)
        return found

    def _change(
        self, what: object, kind: int, flags: int, body: bytes, tolerated: frozenset[int] = frozenset()
    ) -> None:
        self._changes.append(Change(what, (kind, flags, body), tolerated))

    def commit(self) -> list[NodeError | None]:
        """Have them carried out; returns for each why it was refused, None where it was not."""
        errors = self._socket.change([each.message for each in self._changes])
        if not any(errors):
            return [None] * len(errors)
        return [each.refused(error) for each, error in zip(self._changes, errors, strict=True)]


def _table(table: int) -> tuple[int, rtnetlink.Values]:
    """A table's number in the fixed part and in the attributes, which are 15 in routes and rules alike."""
    return (table, {}) if table < 256 else (0, {RTA_TABLE: table})


def _route(
    protocol: int,
    destination: IPv4Network | IPv4Address,
    table: int,
    scope: int,
    kind: int,
    flags: int,
    values: tuple[tuple[int, rtnetlink.Value | None], ...],
) -> bytes:
    if isinstance(destination, IPv4Network):
        address, length = destination.network_address, destination.prefixlen
    else:
        address, length = destination, 32
    head, tail = _around(protocol, length, table, scope, kind, flags, values)
    return head + address.packed + tail


@lru_cache(maxsize=64)
def _around(
    protocol: int,
    length: int,
    table: int,
    scope: int,
    kind: int,
    flags: int,
    values: tuple[tuple[int, rtnetlink.Value | None], ...],
) -> tuple[bytes, bytes]:
    """What is before and behind the destination of a route: the same for every host behind a device."""
    number, more = _table(table)
    head = ROUTE.pack(FAMILY, length, 0, 0, number, protocol, scope, kind, flags)
    present = {attribute: value for attribute, value in values if value is not None}
    return head + ATTRIBUTE.pack(8, RTA_DST), packed({**present, **more})


def _rule(protocol: int, rule: Rule) -> bytes:
    values: rtnetlink.Values = {FRA_PRIORITY: rule.preference, FRA_PROTOCOL: bytes((protocol,))}
    lengths = [0, 0]
    for at, (kind, given) in enumerate(((FRA_DST, rule.destination), (FRA_SRC, rule.source))):
        if given is not None:
            network = IPv4Network(given)
            values[kind], lengths[at] = network.network_address, network.prefixlen
    if rule.interface is not None:
        values[FRA_IIFNAME] = rule.interface
    number, more = _table(rule.table or 0)
    action = BLACKHOLE if rule.table is None else TO_TABLE
    return ROUTE.pack(FAMILY, *lengths, 0, number, 0, 0, action, 0) + packed(values | more)
