"""What is one daemon's alone among those of its node; it is claimed before anything is touched."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from string import ascii_lowercase

from testbed.mobileip.io.changes import PROTOCOL
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.table import Table
from testbed.mobileip.tunnel.api import DEVICES
from testbed.mobileip.wire.value import value

LONGEST_DEVICES = 9
"""Characters of `devices`: the name of an interface has at most 15, and `probe0` follows in the longest."""
MOST_PROCESSES = len(ascii_lowercase)
"""Processes of a daemon: a letter in the names of their devices distinguishes them."""
MOBILE_NODE_TABLE = 434
"""Routes of what a mobile node sends from its home address while it is away."""
FOREIGN_AGENT_TABLE = 435
"""Routes of whom a foreign agent has a tunnel for; with tunnels of the kernel those of its device `mip0`, the
next table those of `mip1`, and so on."""
_PREFIX = "\0testbed.mobileip/"
_WAITING = 64
_CREDENTIALS = struct.Struct("=iII")


@value
class Instance:
    """What distinguishes a daemon from the others of its node."""

    name: str
    """The source of its events."""
    devices: str = DEVICES
    """What the names of its tunnel devices begin with."""
    protocol: int = PROTOCOL
    """Marks its routes and rules."""
    table: int | None = None
    """Its first routing table; None for a daemon that uses only the table main."""
    shares_port: bool = False
    """Whether it leaves UDP port 434 at other addresses and links than its own to other daemons."""

    def part(self, number: int) -> Instance:
        """That of a process of a daemon that has several: its tunnel devices are mipa0, mipb0 and so on."""
        return replace(self, devices=self.devices + ascii_lowercase[number])

    @property
    def devices_claim(self) -> tuple[str, str]:
        """The same of its tunnel devices alone."""
        return f"the name {self.devices}N of tunnel devices", "device"

    @property
    def claims(self) -> dict[str, str]:
        """What no other daemon of the node may have → the key of the file that says it."""
        claims = dict([self.devices_claim, (f"the route protocol {self.protocol}", "protocol")])
        if self.table is not None:
            claims[f"the routing table {self.table}"] = "table"
        return claims


def read_instance(table: Table, role: str, first_table: int | None = None) -> Instance:
    """Read what a file says of it; `first_table` is the routing table by default. Raises ConfigError."""
    devices = table.string("device", DEVICES)
    if not re.fullmatch(rf"[a-z](?:[a-z-]{{0,{LONGEST_DEVICES - 2}}}[a-z])?", devices):
        raise table.error("device", f"expected up to {LONGEST_DEVICES} letters, got {devices!r}")
    protocol = table.integer("protocol", PROTOCOL)
    if not 5 <= protocol <= 255:  # the lower ones are the kernel's and `ip`'s
        raise table.error("protocol", f"expected 5 to 255, got {protocol}")
    number = first_table
    if number is not None:
        number = table.integer("table", number)
        if not 1 <= number <= 0x7FFFFFFF or 253 <= number <= 255:
            raise table.error("table", f"expected 1 to 2147483647, but not 253 to 255, got {number}")
    shares_port = role != "mobile-node" and table.boolean("share-port", False)
    return Instance(table.string("name", role), devices, protocol, number, shares_port)


class Claims:
    """What this process claims within its network namespace, until it ends or lets go.

    A claim is an abstract UNIX socket: of these each namespace has its own, and the kernel takes a killed
    process's away. So nothing is left over, and only a process that runs can be in the way.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def take(self, claims: Iterable[tuple[str, str]]) -> None:
        """Claim things, each with the key of the configuration that gives another; raises NodeError."""
        for what, key in claims:
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._sockets.append(claim)
            try:
                claim.bind(f"{_PREFIX}{what}"[:107])
            except OSError as error:
                raise NodeError(
                    f"{what} is in use by {_owner(what)}: give one of them another `{key}`"
                ) from error
            claim.listen(_WAITING)

    def close(self) -> None:
        """Let go of everything."""
        for claim in self._sockets:
            claim.close()


def _owner(what: str) -> str:
    """Who has claimed something, in words; it never accepts, and is known all the same."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, suppress(OSError):
        asking.setblocking(False)
        asking.connect(f"{_PREFIX}{what}"[:107])
        credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return f"process {_CREDENTIALS.unpack(credentials)[0]}"
    return "another process"
