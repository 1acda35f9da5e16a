"""Thousands of mobile nodes on one home agent: how long until all are registered, and what each costs.

For each number of nodes a lab `bulk` is brought up. Once it is ready, its crowd attaches within some seconds.
Ratios are to that time, and to one node; the exponents over the number of nodes are those of guideline 5.7
(RFC 4093 §5.7): at most 1.
"""

from __future__ import annotations

import random
import time
from contextlib import closing
from ipaddress import IPv4Address
from typing import Any, Final, NamedTuple

from benchmarks.common import arguments, engine_and_image, lab, note, print_machine, print_table, run
from benchmarks.memory import memory
from testbed.agreed import SETTLED, Op
from testbed.claim.expect.growth import exponent
from testbed.engine.api import Container
from testbed.engine.docker import DockerEngine
from testbed.lab.daemons import ask, converse
from testbed.lab.state import ActualLab

FIRST: Final = IPv4Address("10.64.0.10")
PINGED: Final = 20
STATE: Final = "/var/lib/testbed/home-agent.state"
DAEMON: Final = "cat /proc/$(cat /etc/testbed/services/{0}/supervise/pid)/schedstat"


class Processor(NamedTuple):
    """What a daemon had of the processors, in seconds."""

    ran: float
    waited: float
    """Ready to run, while others ran."""

    def since(self, before: Processor) -> Processor:
        """What it had since then."""
        return Processor(self.ran - before.ran, self.waited - before.waited)


class Found(NamedTuple):
    """What came of a crowd."""

    nodes: int
    registered: int
    seconds: float
    requests: int
    messages: int
    """Requests and replies."""
    shed: int
    """Requests that the home agent dropped or denied because it had too many."""
    answered: float
    """The part of the pings that were answered."""
    crowd: Processor
    agent: Processor
    crowd_memory: float
    """MiB, as of the home agent."""
    agent_memory: float
    bindings: int
    state: int
    """Bytes of the home agent's state file."""


def processor(engine: DockerEngine, container: Container, service: str) -> Processor:
    """Return what a daemon has had of the processors so far."""
    ran, waited, _ = run(engine, container, "sh", "-c", DAEMON.format(service)).split()
    return Processor(int(ran) / 1e9, int(waited) / 1e9)


def attach(engine: DockerEngine, crowd: Container, within: float) -> dict[str, Any]:
    """Have all nodes attach; return what the crowd reports when they have registered, or have not."""
    request = {"op": Op.MOVE, "network": "hotel", "within": within}
    with closing(converse(engine, crowd, "bulk-nodes", request)) as messages:
        for message in messages:
            if message.get("event") == SETTLED:
                return message
    raise RuntimeError("the crowd has ended")


def ping(engine: DockerEngine, where: ActualLab, nodes: int) -> float:
    """Ping some nodes, drawn at random, through their tunnels; return which part of them answers."""
    chosen = [str(FIRST + number) for number in random.sample(range(nodes), min(PINGED, nodes))]
    alive = run(engine, where.node("cn"), "sh", "-c", f"fping -a -t 2000 {' '.join(chosen)} || true")
    return len(alive.split()) / len(chosen)


def measure(engine: DockerEngine, where: ActualLab, nodes: int, within: float) -> Found:
    """Have the crowd of a lab attach, and return what came of it."""
    crowd, agent = where.node("crowd"), where.node("ha-crowd")
    daemons = ((crowd, "bulk-nodes"), (agent, "home-agent"))
    before = [processor(engine, *each) for each in daemons]
    settled = attach(engine, crowd, within)
    ours, its = (processor(engine, *each).since(then) for each, then in zip(daemons, before, strict=True))
    time.sleep(1.0)  # until the home agent has written its state file
    state = ask(engine, agent, "home-agent", {"op": Op.STATE})
    return Found(
        nodes=nodes,
        registered=settled["registered"],
        seconds=settled["ms"] / 1000,
        requests=settled["requests"],
        messages=settled["requests"] + settled["replies"],
        shed=state["counters"]["requests-shed"] + state["counters"].get("denied-130", 0),
        answered=ping(engine, where, nodes),
        crowd=ours,
        agent=its,
        crowd_memory=memory(engine, crowd)[1],
        agent_memory=memory(engine, agent)[1],
        bindings=state["mobile_nodes"],
        state=int(run(engine, agent, "stat", "-c", "%s", STATE)),
    )


def waited(each: Processor) -> str:
    """The part of the time in which a daemon could have run, and others did."""
    return f"{each.waited / (each.ran + each.waited or 1):.0%}"


def print_attaching(found: list[Found], within: float, *, markdown: bool) -> None:
    """Print how long it took, and whether all went well."""
    print_table(
        f"A crowd that attaches within {within:g} s",
        [
            "nodes",
            "registered",
            "after",
            "to the time",
            "requests a node",
            "shed or denied",
            "pings answered",
        ],
        [
            [
                f"{each.nodes:,}",
                f"{each.registered:,}",
                f"{'' if each.registered == each.nodes else '> '}{each.seconds:.1f} s",
                f"{each.seconds / within:.2f}×",
                f"{each.requests / each.nodes:.3f}",
                f"{each.shed:,}",
                f"{each.answered:.0%}",
            ]
            for each in found
        ],
        markdown=markdown,
    )


def print_costs(found: list[Found], *, markdown: bool) -> None:
    """Print what a node costs the process that has it, and the home agent."""
    least = found[0]

    def a_node(each: Found, grown: float) -> str:
        return f"{grown * 1024 / (each.nodes - least.nodes):.1f} KiB" if each is not least else ""

    head = ("processor time a node", "waited", "memory", "a node more")
    print_table(
        "What a node costs: the crowd, and the home agent; *waited* for a processor that others had",
        ["nodes", *(f"crowd: {each}" for each in head), *(f"agent: {each}" for each in head)],
        [
            [
                f"{each.nodes:,}",
                f"{each.crowd.ran / each.nodes * 1e6:.0f} µs",
                waited(each.crowd),
                f"{each.crowd_memory:.1f} MiB",
                a_node(each, each.crowd_memory - least.crowd_memory),
                f"{each.agent.ran / each.nodes * 1e6:.0f} µs",
                waited(each.agent),
                f"{each.agent_memory:.1f} MiB",
                a_node(each, each.agent_memory - least.agent_memory),
            ]
            for each in found
        ],
        markdown=markdown,
    )


def print_growth(found: list[Found], *, markdown: bool) -> None:
    """Print the exponents of what guideline 5.7 is about."""
    rows = {
        "requests and replies": [(each.nodes, float(each.messages)) for each in found],
        "bindings": [(each.nodes, float(each.bindings)) for each in found],
        "bytes of the home agent's state file": [(each.nodes, float(each.state)) for each in found],
    }
    print_table(
        f"Growth from {found[0].nodes:,} to {found[-1].nodes:,} nodes (target: at most 1)",
        ["", "exponent"],
        [[words, f"{exponent(points):.3f}"] for words, points in rows.items()],
        markdown=markdown,
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 10, 100, 1000, 10_000, 20_000])
    parser.add_argument(
        "--within", type=float, default=10.0, help="seconds in which all attach (default: 10)"
    )
    options = parser.parse_args()
    found: list[Found] = []
    with engine_and_image() as (engine, image):
        for nodes in sorted(set(options.nodes)):
            sets = [f"node.crowd.count={nodes}", "node.crowd.attach=null"]
            with lab(engine, image, "bulk", "bench-crowd", sets) as where:
                found.append(measure(engine, where, nodes, options.within))
            note(str(found[-1]))
        print_attaching(found, options.within, markdown=options.markdown)
        print_costs(found, markdown=options.markdown)
        if len(found) > 1:
            print_growth(found, markdown=options.markdown)
        print_machine(engine)


if __name__ == "__main__":
    main()
