"""Holds simulations against labs: mobile nodes take the same moves in both, and messages are counted.

    python tests/simulated.py SOLUTION RUN…      compares; RUN is a folder of the evidence, claims/NAME/main

A lab's messages are counted in its captures: requests and replies of the mobile nodes that move, and the
messages of IKE negotiations. What IKE asks to see whether a peer lives is left out, as is what mobile nodes
that do not move ask the home agent. What was sent again because no answer had come is counted apart: on a
busy machine that happens, and never in the simulation.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from testbed.mobileip.wire import registration_request
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.packet.match import match
from testbed.packet.pcap import ETHERNET, Frame, read_capture
from testbed.simulate.model import Model
from testbed.simulate.solutions import SOLUTIONS
from testbed.simulate.world import World

CROSSINGS = {"core-internet": 2, "ha-*": 1}
"""By tap, how often one message passes it: at core/internet it comes in and goes out."""
MESSAGES = "udp port 434 or udp port 500"
FIRST = 100
"""The last octet of the home address of mn; that of mn-1 is one more."""
OUTER_FIRST = 200
IKE, IKE_SA_INIT, IKE_AUTH = 500, 34, 35
SETTLED = 5.0
"""Seconds after which a simulated move is over."""


class Count(NamedTuple):
    """Packets at one place."""

    packets: int
    again: int = 0
    """More packets: what was sent again, and the answers to that."""

    @property
    def once(self) -> Count:
        """Without these."""
        return Count(self.packets)


class Step(NamedTuple):
    """Mobile nodes that go from network to network, and the messages that they take."""

    nodes: tuple[int, ...]
    to: tuple[str, ...]
    internet: Count
    """At core/internet, where each message comes in and goes out."""
    home_agent: Count
    """At all links of the home agent inside."""

    @property
    def once(self) -> Step:
        """Without what was sent again."""
        return self._replace(internet=self.internet.once, home_agent=self.home_agent.once)


class Message(NamedTuple):
    """A packet of IKE or of Mobile IP's registrations."""

    time: float
    """Unix time."""
    ike: bool
    payload: bytes

    @property
    def is_request(self) -> bool:
        """Of a registration, that is, and no reply."""
        return not self.ike and self.payload[0] == registration_request.TYPE

    @property
    def key(self) -> tuple[bytes, bytes]:
        """What a reply has from its request: home address and the lower half of the identification."""
        end = registration_request.RegistrationRequest.SIZE if self.is_request else RegistrationReply.SIZE
        return self.home_address, self.payload[end - 4 : end]

    @property
    def home_address(self) -> bytes:
        """In requests and replies alike (RFC 5944 §3.3, §3.4)."""
        return self.payload[4:8]

    def is_of(self, nodes: Sequence[int]) -> bool:
        """Whether it is of a negotiation, or of the registration of one of these mobile nodes."""
        if self.ike:
            return self.payload[18] in (IKE_SA_INIT, IKE_AUTH)  # RFC 7296 §3.1
        return any(self.home_address[3] in (FIRST + node, OUTER_FIRST + node) for node in nodes)


def messages(capture: Path, expression: str = MESSAGES) -> list[Message]:
    """The packets of a capture that a filter matches, which is one for such messages alone."""
    return [_message(frame) for frame in match(read_capture(capture), expression, {})]


def _message(frame: Frame) -> Message:
    assert frame.linktype == ETHERNET
    ip = frame.data[14:]
    udp = ip[(ip[0] & 15) * 4 :]
    ike = IKE in (int.from_bytes(udp[:2]), int.from_bytes(udp[2:4]))
    return Message(frame.time / 1e9, ike, udp[8:])


def count(passed: Sequence[Message], crossings: int) -> Count:
    """Those that pass a place, each of them so often.

    A packet that passes more often was sent again as it was, as IKE does it (RFC 7296 §2.1). A mobile node
    that has no answer asks for the same with a new identification (RFC 5944 §3.6.3). An answer that passed
    here may have come too late; but renewals come when at least half of the lifetime is over.
    """
    seen: Counter[bytes] = Counter()
    again: set[bytes] = set()
    """Payloads that would not have been sent, had an answer come in time."""
    asked: dict[tuple[bytes, bytes], int] = {}
    """By home address and identification, the number of the question; two nodes may choose alike."""
    latest: dict[bytes, tuple[bytes, int, float]] = {}
    """By home address, what was asked last, its number, and when."""
    answered: set[int] = set()
    for message in passed:
        payload = message.payload
        seen[payload] += 1
        if message.ike or seen[payload] > 1:
            continue
        if message.is_request:
            content = payload[:16]  # all but the identification (RFC 5944 §3.3)
            before, number, when = latest.get(message.home_address, (b"", 0, 0.0))
            soon = message.time - when < int.from_bytes(payload[2:4]) / 2
            if content == before and (soon or number not in answered):
                again.add(payload)
            else:
                number = len(asked) + 1
            latest[message.home_address] = content, number, message.time
            asked[message.key] = number
        elif (answers := asked.get(message.key)) in answered:
            again.add(payload)
        elif answers is not None:
            answered.add(answers)
    packets = sum(min(number, crossings) for payload, number in seen.items() if payload not in again)
    return Count(packets, len(passed) - packets)


def counted(run: Path) -> Iterator[Step]:
    """The moves of a run in a lab."""
    lines = (run / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    captures = run / "captures"
    passed = {
        tap: sorted(message for file in captures.glob(f"{tap}.pcap") for message in messages(file))
        for tap in CROSSINGS
    }
    for number, step in enumerate(steps):
        found = re.fullmatch(r"move (?:of (.*) )?to (.*)", step["text"])
        if found is None:
            continue
        nodes = [int(name.partition("-")[2] or 0) for name in (found[1] or "mn").split(", ")]
        ends = steps[number + 1]["began"] if number + 1 < len(steps) else float("inf")
        internet, home_agent = (
            count(
                [each for each in those if step["began"] <= each.time < ends and each.is_of(nodes)], crossings
            )
            for those, crossings in zip(passed.values(), CROSSINGS.values(), strict=True)
        )
        yield Step((*nodes,), (*found[2].split(", "),), internet, home_agent)


def known(solution: str, steps: Iterable[Step]) -> Iterator[Step]:
    """Those on networks where the simulation has mobile nodes roam, from one such network to another."""
    sites, elsewhere = {site.name for site in SOLUTIONS[solution].sites}, set[int]()
    for step in steps:
        if sites.issuperset(step.to) and elsewhere.isdisjoint(step.nodes):
            yield step
        elsewhere.difference_update(step.nodes)
        elsewhere.update(step.nodes if step.to[-1] not in sites else ())


def simulated(solution: str, moves: Sequence[tuple[Sequence[int], Sequence[str]]]) -> list[Step]:
    """The same moves of eight mobile nodes, from where a run of a claim begins: all in the hotel.

    But the first is registered nowhere, and has no IPsec (testbed.experiment.claims.reset).
    """
    world = World(SOLUTIONS[solution], Model(), 8)
    network, home_agent = world.network, world.home_agents[0].tally
    for host in world.hosts[1:]:
        host.move(world.solution.site("hotel"))
    network.run(SETTLED)
    steps = []
    for nodes, to in moves:
        before = network.internet.messages, home_agent.messages
        for name in to:
            for node in nodes:
                world.hosts[node].move(world.solution.site(name))
            network.run(network.now + SETTLED)
        internet = CROSSINGS["core-internet"] * (network.internet.messages - before[0])
        steps.append(Step((*nodes,), (*to,), Count(internet), Count(home_agent.messages - before[1])))
    return steps


def main(solution: str, *runs: str) -> int:
    """Print both counts of each step, and whether they are the same."""
    same = True
    for run in runs:
        lab = list(known(solution, counted(Path(run))))
        for one, other in zip(lab, simulated(solution, [step[:2] for step in lab]), strict=True):
            same = same and one.once == other
            where = f"{len(one.nodes)} to {', '.join(one.to)}"
            counts = (
                " + ".join(
                    f"{each.packets} (and {each.again} again)" if each.again else f"{each.packets}"
                    for each in step[2:]
                )
                for step in (one, other)
            )
            print("{} {}: lab {}, simulation {}".format("=" if one.once == other else "!", where, *counts))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
