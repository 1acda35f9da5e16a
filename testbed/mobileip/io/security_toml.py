"""The security associations and keys of the daemons' TOML files: tables `[[security]]` and `[[aaa]]`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from testbed.mobileip.core.security import Credential, Peer, ReplayProtection, SecurityAssociation
from testbed.mobileip.io.table import Table
from testbed.mobileip.wire.algorithm import Algorithm
from testbed.mobileip.wire.reader import address

C = TypeVar("C")


def build(table: Table, make: Callable[[], C]) -> C:
    """Let the core check the values; it names the value that it refuses."""
    try:
        return make()
    except ValueError as error:
        raise table.error("", str(error)) from error


def mobile_node_of(table: Table) -> Peer:
    """A home address, or an NAI."""
    text = table.string("mobile-node")
    return text if "@" in text else table.address("mobile-node")


def association(table: Table, peer: Peer, registers: bool = False) -> SecurityAssociation:
    """An association; `registers` where it is that of a mobile node and its home agent."""
    replay = ReplayProtection.TIMESTAMPS
    if registers:
        replay = table.member("replay", ReplayProtection, replay)
    association = build(
        table,
        lambda: SecurityAssociation(
            peer,
            table.integer("spi"),
            table.hexadecimal("key"),
            table.member("algorithm", Algorithm, Algorithm.HMAC_MD5),
            replay,
        ),
    )
    table.finish()
    return association


def associations(
    tables: list[Table], first: str, second: str, registers: bool = False
) -> tuple[tuple[SecurityAssociation, ...], tuple[SecurityAssociation, ...]]:
    """The associations with peers of two kinds, distinguished by the key that names the peer."""
    found: dict[str, list[SecurityAssociation]] = {first: [], second: []}
    for table in tables:
        kind = second if table.has(second) else first
        peer = mobile_node_of(table) if kind == "mobile-node" else table.address(kind)
        count = table.integer("count", 1)
        if count != 1 and (count < 1 or kind != "mobile-node" or isinstance(peer, str)):
            raise table.error("count", "expected 1 or more, with the home address of the first mobile node")
        one = association(table, peer, registers and kind == first)
        found[kind].append(one)
        if not isinstance(peer, str):
            found[kind] += [replace(one, peer=address(int(peer) + number)) for number in range(1, count)]
    return tuple(found[first]), tuple(found[second])


def credential(table: Table, node: Peer) -> Credential:
    """The key that a mobile node and its AAA server share (RFC 4721)."""
    credential = build(table, lambda: Credential(node, table.integer("spi"), table.hexadecimal("key")))
    table.finish()
    return credential


def credentials(table: Table) -> tuple[Credential, ...]:
    """Those of all tables `[[aaa]]`."""
    return tuple(credential(each, mobile_node_of(each)) for each in table.tables("aaa"))
