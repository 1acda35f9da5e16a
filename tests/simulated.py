"""Holds simulations against labs: mobile nodes take the same moves in both, and messages are counted.

    python tests/simulated.py SOLUTION RUN…      compares; RUN is a folder of the evidence, claims/NAME/main

A lab's messages are counted in its captures: requests and replies of the mobile nodes that move, and the
messages of IKE negotiations. What IKE asks to see whether a peer lives is left out, as is what mobile nodes
that do not move ask the home agent. On a busy machine a message may be sent twice; then the two differ.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from testbed.packet.match import match
from testbed.packet.pcap import ETHERNET, Frame, read_capture
from testbed.simulate.model import Model
from testbed.simulate.solutions import SOLUTIONS
from testbed.simulate.world import World

TAPS = ("core-internet", "ha-*")
MESSAGES = "udp port 434 or udp port 500"
FIRST = 100
"""The last octet of the home address of mn; that of mn-1 is one more."""
OUTER_FIRST = 200
IKE_SA_INIT, IKE_AUTH = 34, 35
SETTLED = 5.0
"""Seconds after which a simulated move is over."""


class Step(NamedTuple):
    """Mobile nodes that go from network to network, and the messages that they take."""

    nodes: tuple[int, ...]
    to: tuple[str, ...]
    internet: int
    """At core/internet, where each message comes in and goes out."""
    home_agent: int
    """At all links of the home agent inside."""


def counted(run: Path) -> Iterator[Step]:
    """The moves of a run in a lab."""
    lines = (run / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    files = [file for tap in TAPS for file in (run / "captures").glob(f"{tap}.pcap")]
    frames = {file.stem: match(read_capture(file), MESSAGES, {}) for file in files}
    for number, step in enumerate(steps):
        found = re.fullmatch(r"move (?:of (.*) )?to (.*)", step["text"])
        if found is None:
            continue
        nodes = [int(name.partition("-")[2] or 0) for name in (found[1] or "mn").split(", ")]
        ends = steps[number + 1]["began"] if number + 1 < len(steps) else float("inf")
        ours = {
            tap: sum(step["began"] <= each.time / 1e9 < ends and _is_of(each, nodes) for each in those)
            for tap, those in frames.items()
        }
        home_agent = sum(count for tap, count in ours.items() if tap.startswith("ha-"))
        yield Step((*nodes,), (*found[2].split(", "),), ours[TAPS[0]], home_agent)


def _is_of(frame: Frame, nodes: Sequence[int]) -> bool:
    assert frame.linktype == ETHERNET
    ip = frame.data[14:]
    udp = ip[(ip[0] & 15) * 4 :]
    if 500 in (int.from_bytes(udp[:2]), int.from_bytes(udp[2:4])):
        return udp[8 + 18] in (IKE_SA_INIT, IKE_AUTH)  # RFC 7296 §3.1
    last = udp[8 + 7]  # of the home address, in requests and replies alike (RFC 5944 §3.3, §3.4)
    return any(last in (FIRST + node, OUTER_FIRST + node) for node in nodes)


def simulated(solution: str, moves: Sequence[tuple[Sequence[int], Sequence[str]]]) -> list[Step]:
    """The same moves of eight mobile nodes that begin in the hotel."""
    world = World(SOLUTIONS[solution], Model(), 8)
    network, home_agent = world.network, world.home_agents[0].tally
    for host in world.hosts:
        host.move(world.solution.site("hotel"))
    network.run(SETTLED)
    steps = []
    for nodes, to in moves:
        before = network.internet.messages, home_agent.messages
        for name in to:
            for node in nodes:
                world.hosts[node].move(world.solution.site(name))
            network.run(network.now + SETTLED)
        internet = 2 * (network.internet.messages - before[0])
        steps.append(Step((*nodes,), (*to,), internet, home_agent.messages - before[1]))
    return steps


def main(solution: str, *runs: str) -> int:
    """Print both counts of each step, and whether they are the same."""
    same = True
    for run in runs:
        lab = list(counted(Path(run)))
        for one, other in zip(lab, simulated(solution, [step[:2] for step in lab]), strict=True):
            same = same and one == other
            where = f"{len(one.nodes)} to {', '.join(one.to)}"
            print(f"{'=' if one == other else '!'} {where}: lab {one[2:]}, simulation {other[2:]}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
