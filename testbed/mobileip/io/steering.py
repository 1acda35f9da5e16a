"""Which process of a home agent serves a mobile node, and how the kernel knows (classic BPF).

The processes of a home agent share no state, so that everything about a mobile node has to reach the same
process: registration requests (RFC 5944 §3.3), revocations and their acknowledgments (RFC 3543 §3.3, §3.4),
what the mobile node tunnels, and its keepalives (RFC 3519 §3.3). All of them name its home address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

from testbed.mobileip.io.bpf import (
    JA,
    JEQ,
    JGE,
    JGT,
    JSET,
    LD,
    LDB_X,
    LDH_X,
    LDW,
    LDW_X,
    LDX_IHL,
    LENGTH,
    MOD,
    NETWORK_HEADER,
    RET,
    RET_LOADED,
    SUB_X,
    Instruction,
)
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.gre import CHECKSUM
from testbed.mobileip.wire.minimal import SOURCE_PRESENT
from testbed.mobileip.wire.registration_request import TYPE as REQUEST
from testbed.mobileip.wire.revocation import MESSAGES as REVOCATIONS
from testbed.mobileip.wire.udp_tunnel import DATA, GRE, IP_IN_IP, MINIMAL
from testbed.mobileip.wire.value import value

Program = tuple[Instruction, ...]
_ACCEPT: Instruction = (RET, 0, 0, 0x40000)
_REJECT: Instruction = (RET, 0, 0, 0)
_UDP_HEADER = 8
_HOME_ADDRESS = 4
"""Where it is in a registration request, a revocation, and an acknowledgment of that."""
_SOURCE = 12
"""Where an IP header has the source address."""
_TUNNELS = {
    Encapsulation.IP_IN_IP: IP_IN_IP,
    Encapsulation.GRE: GRE,
    Encapsulation.MINIMAL: MINIMAL,
}

_Step = tuple[int, int | str, int | str, int | str] | str
"""An instruction, whose jumps may name a label; or a label, which is where the next instruction is."""


@value
class Steering:
    """Shares the mobile nodes out among the processes of a home agent."""

    processes: int
    pool: tuple[IPv4Network, ...] = ()
    """Home addresses that are assigned to mobile nodes known by an NAI (RFC 2794).

    The first process serves all of these: a request for such an address has zero in its place.
    """

    def number(self, home_address: IPv4Address) -> int:
        """The number, from 0, of the process that serves the mobile node with this home address."""
        if any(home_address in each for each in self.pool):
            return 0
        return int(home_address) % self.processes

    def divided(self, most: int, nodes: Iterable[IPv4Address | str]) -> list[int]:
        """How many of `most` mobile nodes each process may have; `nodes` are home addresses and NAIs.

        In proportion to those that it serves, and at least one: what suffices for all does so for each.
        """
        served = Counter(0 if isinstance(node, str) else self.number(node) for node in nodes)
        total = max(1, served.total())
        return [max(1, most * served[number] // total) for number in range(self.processes)]

    def choice(self) -> Program:
        """The program that chooses among the sockets of UDP port 434, one for each process in order."""
        return _assembled([*_message(0), *self._chosen(), (RET_LOADED, 0, 0, 0)])

    def mine(self, number: int, program: Sequence[_Step], then: Sequence[Instruction]) -> Program:
        """Accept what `program` finds to be for the process of this number, and what `then` accepts of it."""
        own: list[_Step] = [(JEQ, 1, 0, number), _REJECT]
        return _assembled([*program, *self._chosen(), *own]) + tuple(then)

    def _chosen(self) -> list[_Step]:
        """Make a home address the number of its process; what has none comes by the label `none`."""
        steps: list[_Step] = [(JA, 0, 0, "address"), "none", (LD, 0, 0, 0), (JA, 0, 0, "chosen"), "address"]
        for number, each in enumerate(collapse_addresses(self.pool)):
            steps += [
                (JGE, 0, f"beside {number}", int(each.network_address)),
                (JGT, f"beside {number}", 0, int(each.broadcast_address)),
                (LD, 0, 0, 0),
                (JA, 0, 0, "chosen"),
                f"beside {number}",
            ]
        return [*steps, (MOD, 0, 0, self.processes), "chosen"]


@value
class Share:
    """The mobile nodes of one of the processes."""

    steering: Steering
    number: int

    def serves(self, home_address: IPv4Address) -> bool:
        """Whether this process serves the mobile node with this home address."""
        return self.steering.number(home_address) == self.number

    def messages(self, then: Sequence[Instruction]) -> Program:
        """A filter of a UDP socket: what is about these mobile nodes, and `then` accepts."""
        return self.steering.mine(self.number, _message(_UDP_HEADER), then)

    def datagrams(self, then: Sequence[Instruction]) -> Program:
        """The same of a socket that is given the IP header too."""
        return self.steering.mine(self.number, [(LDX_IHL, 0, 0, 0), *_message(_UDP_HEADER)], then)

    def tunnelled(self) -> Mapping[str, Program]:
        """Filters of the raw sockets of tunnels, by their encapsulation: what these mobile nodes send."""
        filters = {
            encapsulation.value: self.steering.mine(
                self.number, [(LDX_IHL, 0, 0, 0), *_inside(next_header, 0)], (_ACCEPT,)
            )
            for encapsulation, next_header in _TUNNELS.items()
        }
        return {**filters, Encapsulation.UDP.value: self.datagrams((_ACCEPT,))}


def _room(end: int) -> list[_Step]:
    """Go on where so many bytes follow from X on: what is shorter is for the first process to discard."""
    return [(LENGTH, 0, 0, 0), (SUB_X, 0, 0, 0), (JGE, 0, "none", end)]


def _message(at: int) -> list[_Step]:
    """Load the home address that a message to UDP port 434 is about; it begins `at` bytes from X on."""
    steps = [*_room(at + _HOME_ADDRESS + 4), (LDB_X, 0, 0, at), (JEQ, "data", 0, DATA)]
    steps += [(JEQ, "named", 0, kind) for kind in (REQUEST, *REVOCATIONS)]
    named: list[_Step] = [
        (JA, 0, 0, "none"),
        "named",
        (LDW_X, 0, 0, at + _HOME_ADDRESS),
        (JA, 0, 0, "address"),
    ]
    steps += [*named, "data", (LDB_X, 0, 0, at + 1)]
    steps += [(JEQ, f"inside {kind}", 0, kind) for kind in _TUNNELS.values()]
    steps.append((JA, 0, 0, "none"))
    for kind in _TUNNELS.values():
        steps += [f"inside {kind}", *_inside(kind, at + 4), (JA, 0, 0, "address")]
    return steps


def _inside(next_header: int, at: int) -> list[_Step]:
    """Load the inner source, behind the headers in front of `at` from X on."""
    if next_header == IP_IN_IP:
        return [*_room(at + _SOURCE + 4), (LDW_X, 0, 0, at + _SOURCE)]
    if next_header == GRE:
        inner = at + 4 + _SOURCE
        return [
            *_room(inner + 4),
            (LDH_X, 0, 0, at),
            (JSET, "checksum", 0, CHECKSUM),
            (LDW_X, 0, 0, inner),
            (JA, 0, 0, "address"),
            "checksum",
            *_room(inner + 8),
            (LDW_X, 0, 0, inner + 4),
        ]
    return [
        *_room(at + 8),
        (LDB_X, 0, 0, at + 1),
        (JSET, "source", 0, SOURCE_PRESENT),
        (LDW, 0, 0, NETWORK_HEADER + _SOURCE),  # RFC 2004 §3.1: that of the outer header
        (JA, 0, 0, "address"),
        "source",
        *_room(at + 12),
        (LDW_X, 0, 0, at + 8),
    ]


def _assembled(steps: Sequence[_Step]) -> Program:
    """Instructions, with distances in place of labels; a label is there once, behind the jumps to it."""
    places: dict[str, int] = {}
    count = 0
    for step in steps:
        if isinstance(step, str):
            places[step] = count
        else:
            count += 1
    program: list[Instruction] = []
    for step in steps:
        if not isinstance(step, str):
            next_one = len(program) + 1
            operation, yes, no, operand = (
                places[each] - next_one if isinstance(each, str) else each for each in step
            )
            program.append((operation, yes, no, operand))
    return tuple(program)
