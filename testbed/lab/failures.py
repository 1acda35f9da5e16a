"""Links that fail because somebody wants to see what becomes of a lab: cut, and mended again.

A link fails at one node: nothing that the node sends there leaves it, and nothing that comes in there is
taken. A node fails when all its links do. Nothing else changes, as when somebody pulls a cable out of a
switch: the interface stays up with its addresses and routes, daemons keep what they know and find out by
silence. So all is as it was once the link is mended.

The kernel drops the packets, by a filter in front of all queues; a delay of the link's own stays in force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from testbed.agreed import FAILED
from testbed.engine.api import Container, Engine
from testbed.errors import MachineError, UsageError, did_you_mean
from testbed.lab.inside import in_each, run_inside
from testbed.lab.lock import lab_lock
from testbed.lab.state import ActualLab, find_lab, node_facts

_DROP: Final = "1,6 0 0 4"
"""A classic BPF program of one instruction, which returns TC_ACT_STOLEN: senders hear of no error."""
_CUT: Final = f"""\
mkdir -p {FAILED}
for link; do
    tc qdisc add dev "$link" clsact
    for way in ingress egress; do
        tc filter add dev "$link" "$way" bpf direct-action bytecode '{_DROP}' || {{
            tc qdisc delete dev "$link" clsact
            exit 1
        }}
    done
    : >"{FAILED}/$link"
done"""
_MEND: Final = f"""\
for link; do
    tc qdisc delete dev "$link" clsact
    rm -f "{FAILED}/$link"
done"""
_LIST: Final = f"cd {FAILED} 2>/dev/null && ls"

Links = dict[str, tuple[str, ...]]
"""Node → networks."""


def failed_links(engine: Engine, lab: ActualLab) -> Links:
    """The links of a lab that `fail` cut, of the nodes that run and have some. Raises `EngineError`."""
    running = {name: each for name, each in lab.nodes.items() if each.state == "running"}

    def look(name: str, container: Container) -> tuple[str, ...]:
        return tuple(run_inside(engine, container, ["sh", "-c", _LIST]).text.split())

    return {name: links for name, links in in_each(running, look).items() if links}


def fail(engine: Engine, lab: str, place: str) -> list[str]:
    """Cut a node's link (NODE/NETWORK), or all that a node has (NODE); return them as NODE/NETWORK.

    Raises `UsageError` for a place that the lab has not, and where all of it has failed already;
    `MachineError` where the kernel has no such filter.
    """
    with lab_lock(lab, engine.address):
        found = find_lab(engine, lab)
        node, links = _read_place(found, place)
        container = found.running_node(node)
        already = failed_links(engine, found).get(node, ())
        cut = [link for link in links if link not in already]
        if not cut:
            raise UsageError(f"{place} has failed already", hint=f"testbed heal {lab} {place}")
        done = run_inside(engine, container, ["sh", "-ec", _CUT, "sh", *cut])
        if done.code:
            raise MachineError(
                f"the kernel of {node} cannot cut {node}/{cut[0]}: {done.complaint}",
                hint="load the modules sch_ingress and cls_bpf on the engine's host",
            )
    return [f"{node}/{link}" for link in cut]


def heal(engine: Engine, lab: str, place: str | None = None) -> list[str]:
    """Mend a link, all links of a node, or (None) all of a lab; return them as NODE/NETWORK.

    Raises `UsageError` for a place that the lab has not, and where nothing of it has failed.
    """
    with lab_lock(lab, engine.address):
        found = find_lab(engine, lab)
        failed = failed_links(engine, found)
        if place is None:
            wanted = failed
        else:
            node, links = _read_place(found, place)
            wanted = {node: tuple(link for link in failed.get(node, ()) if link in links)}
        healed = [f"{node}/{link}" for node, links in wanted.items() for link in links]
        if not healed:
            others = [f"{node}/{link}" for node, links in failed.items() for link in links]
            what = f"{place} has not failed" if place else f"nothing of lab {lab} has failed"
            raise UsageError(what, hint=f"failed: {', '.join(others)}" if others else None)
        nodes = {node: found.node(node) for node, links in wanted.items() if links}
        in_each(nodes, lambda node, container: mend(engine, container, wanted[node]))
    return healed


def mend(engine: Engine, container: Container, links: Sequence[str]) -> None:
    """Let packets pass again on links of a node that failed. Raises `MachineError`."""
    done = run_inside(engine, container, ["sh", "-ec", _MEND, "sh", *links])
    if done.code:
        raise MachineError(f"cannot mend {', '.join(links)} of {container.name}: {done.complaint}")


def _read_place(lab: ActualLab, place: str) -> tuple[str, tuple[str, ...]]:
    """The node that `NODE` or `NODE/NETWORK` means, and its links there. Raises `UsageError`."""
    facts = {name: node_facts(container) for name, container in lab.nodes.items()}
    node, slash, network = place.partition("/")
    if not slash and node not in facts:
        members = [f"{name}/{node}" for name, one in facts.items() if node in one.links]
        if members:
            raise UsageError(
                f"{node} is a network: links fail at a node", hint=f"name one of {', '.join(members)}"
            )
    links: Mapping[str, str | None] = node_facts(lab.node(node)).links
    if not slash:
        return node, tuple(links)
    if network not in links:
        raise UsageError(f"{node} is not on a network {network}", hint=did_you_mean(network, links))
    return node, (network,)
