"""Which of several engines each node of a lab is on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from testbed.errors import TopologyError, did_you_mean, raise_errors
from testbed.topology.loaded import LoadedTopology


def place_nodes(
    topology: LoadedTopology, engines: Sequence[str], running: Mapping[str, str]
) -> dict[str, str]:
    """Node → engine; empty where there is a single engine, which has no name.

    A node is where `place` puts it, else where it is `running`. All others are spread: the nodes of each role
    over all engines, and of engines that have as many of a role the one with the fewest nodes. Raises
    `TopologyError` where `place` names another engine.
    """
    if not engines:
        return {}
    chosen = topology.topology.place
    raise_errors(
        TopologyError(
            f"unknown engine {engine}",
            hint=did_you_mean(engine, engines),
            source=topology.source("place", node),
        )
        for node, engine in chosen.items()
        if engine not in engines
    )
    placed = {node: engine for node, engine in running.items() if engine in engines} | chosen
    of_role: Counter[tuple[str, str]] = Counter()
    nodes: Counter[str] = Counter()

    def put(node: str, engine: str) -> None:
        placed[node] = engine
        nodes[engine] += 1
        of_role.update((role, engine) for role in topology.node(node).roles)

    for node in [node for node in topology.nodes if node in placed]:
        put(node, placed[node])
    for node, spec in topology.nodes.items():
        if node not in placed:
            put(
                node,
                min(
                    engines,
                    key=lambda engine: (sum(of_role[role, engine] for role in spec.roles), nodes[engine]),
                ),
            )
    return {node: placed[node] for node in topology.nodes}
