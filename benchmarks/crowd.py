"""Thousands of mobile nodes on one home agent: how long until all are registered, and what each costs.

For each number of nodes a lab `bulk` is brought up, whose crowd attaches within so many seconds. Ratios are
to the time in which they attach, and to one node; the exponents of messages, state and memory over the number
of nodes are those of guideline 5.7 (RFC 4093 §5.7): at most 1.
"""

from __future__ import annotations

import json
import math
import random
import time
from ipaddress import IPv4Address
from typing import Any, Final

from benchmarks.common import arguments, engine_and_image, lab, note, print_machine, print_table, run
from benchmarks.memory import memory
from testbed.engine.docker import DockerEngine
from testbed.lab.daemons import ask
from testbed.lab.state import ActualLab

FIRST: Final = IPv4Address("10.64.0.10")
PINGED: Final = 20
HEAD: Final = (
    "nodes",
    "registered",
    "after",
    "to the time",
    "requests a node",
    "shed or denied",
    "pings answered",
    "memory of the crowd",
    "of the agent",
)
STATE: Final = "/var/lib/testbed/home-agent.state"


def settled(engine: DockerEngine, where: ActualLab) -> dict[str, Any]:
    """Wait until the crowd reports that all its nodes have registered, or have not; return the event."""
    for line in engine.logs(where.node("crowd").id, follow=True):
        if '"settled"' in line.text:
            return dict(json.loads(line.text[line.text.index("{") :]))
    raise RuntimeError("the crowd has ended")


def measure(engine: DockerEngine, where: ActualLab, nodes: int, within: float) -> dict[str, float]:
    """Return what came of a crowd."""
    event = settled(engine, where)
    time.sleep(1.0)
    crowd = ask(engine, where.node("crowd"), "bulk-nodes", {"op": "state"})
    agent = ask(engine, where.node("ha-crowd"), "home-agent", {"op": "state"})
    chosen = random.sample(range(nodes), min(PINGED, nodes))
    answered = 0
    for number in chosen:
        try:
            run(engine, where.node("cn"), "ping", "-c", "1", "-W", "2", str(FIRST + number))
            answered += 1
        except RuntimeError:
            continue
    return {
        "registered": crowd["registered"],
        "seconds": event["ms"] / 1000,
        "ratio": event["ms"] / 1000 / within,
        "requests": crowd["counters"]["requests-sent"],
        "messages": crowd["counters"]["requests-sent"] + crowd["counters"]["replies-received"],
        "shed": agent["counters"]["requests-shed"] + agent["counters"].get("denied-130", 0),
        "crowd": memory(engine, where.node("crowd"))[1],
        "agent": memory(engine, where.node("ha-crowd"))[1],
        "state": float(run(engine, where.node("ha-crowd"), "stat", "-c", "%s", STATE)),
        "bindings": agent["mobile_nodes"],
        "pings": answered / len(chosen),
    }


def exponent(points: list[tuple[float, float]]) -> float:
    """The slope of the straight line through the logarithms of points, by least squares."""
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    mean_x, mean_y = (sum(axis) / len(logs) for axis in zip(*logs, strict=True))
    spread: float = sum((x - mean_x) ** 2 for x, _ in logs)
    slope: float = sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread
    return slope


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 10, 100, 1000, 10_000, 20_000])
    parser.add_argument(
        "--within", type=float, default=10.0, help="seconds in which all attach (default: 10)"
    )
    options = parser.parse_args()
    found: dict[int, dict[str, float]] = {}
    with engine_and_image() as (engine, image):
        for nodes in options.nodes:
            sets = [f"node.crowd.count={nodes}", f"node.crowd.within={options.within:g}s"]
            with lab(engine, image, "bulk", "bench-crowd", sets) as where:
                found[nodes] = measure(engine, where, nodes, options.within)
            note(f"{nodes}: {found[nodes]}")
        print_table(
            f"A crowd that attaches within {options.within:g} s",
            HEAD,
            [
                [
                    f"{nodes:,}",
                    f"{each['registered']:,.0f}",
                    f"{each['seconds']:.1f} s",
                    f"{each['ratio']:.2f}",
                    f"{each['requests'] / nodes:.3f}",
                    f"{each['shed']:,.0f}",
                    f"{each['pings']:.0%}",
                    f"{each['crowd']:.1f} MiB",
                    f"{each['agent']:.1f} MiB",
                ]
                for nodes, each in found.items()
            ],
            markdown=options.markdown,
        )
        if len(found) > 1:
            names = {
                "messages": "messages",
                "bindings": "bindings",
                "state": "bytes of the agent's state file",
            }
            print_table(
                "Growth with the number of nodes (target: at most 1)",
                ["", "exponent"],
                [
                    [words, f"{exponent([(nodes, each[name]) for nodes, each in found.items()]):.3f}"]
                    for name, words in names.items()
                ],
                markdown=options.markdown,
            )
        print_machine(engine)


if __name__ == "__main__":
    main()
