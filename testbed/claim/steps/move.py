"""Another network for a mobile node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from pydantic import Field

from testbed.agreed import ROAM, STEPS, Op
from testbed.claim.action import Actor, OfMobileNode
from testbed.claim.names import Fail, Known, NodeNames, Several
from testbed.claim.sight import Facts
from testbed.claim.steps.carry import carried
from testbed.document.functions import Function
from testbed.document.marks import Path
from testbed.document.values import CrowdPart, Duration, crowd_request, format_duration
from testbed.errors import StepError, did_you_mean


class Move(OfMobileNode):
    """The mobile node leaves its link and joins another; its connection manager does what the stack demands.

    The step ends when the manager has settled: with everything in place, or after its bounds without what it
    did not get. Expectations judge what is missing, unless `reaches` makes it a condition. Any mobile node
    but the first is moved back at the end of the run. A crowd (role bulk-nodes), all of it or a part, joins
    another of its links, and stays.
    """

    word = "move"
    title = "The mobile node joins another network"
    order = 10

    SHORT = "to"
    to: Several = Field(min_length=1, description="The network, or several, one after the other")
    nodes: NodeNames | None = Field(
        default=None, min_length=1, description="Several mobile nodes in place of `node`, all at once"
    )
    times: int = Field(default=1, ge=1, le=1000, description="How often to go through the list")
    part: CrowdPart | None = Field(
        default=None, description="Which nodes of a crowd: a share, from its first on, or home addresses"
    )
    within: Duration = Field(default=0, description="The time in which the nodes of a crowd move, one by one")
    reaches: Literal["link", "address", "ike", "registered", "data"] | None = Field(
        default=None, description="What every move has to reach, or else the run is inconclusive"
    )

    def check(self, where: Path, known: Known, fail: Fail) -> None:
        """The nodes are mobile ones, and attach to the networks of this step."""
        if self._is_of_crowd(known):
            self.check_attachable(str(self.node), known.nodes[str(self.node)].networks, where, fail)
            if self.reaches not in (None, "registered"):
                fail((*where, "reaches"), f"a crowd does not report: {self.reaches}", "write registered")
            return
        if self.part is not None or self.within:
            key = "within" if self.part is None else "part"
            hint = "a crowd is a `node` with the role bulk-nodes"
            fail((*where, key), f"{key} is of the move of a crowd", hint)
        if self.nodes is None:
            super().check(where, known, fail)
            return
        if self.node is not None:
            fail((*where, "nodes"), "a move is of `node` or of `nodes`, not of both", "leave one of them out")
        for index, one in enumerate(self.nodes):
            if one in known.with_role(Function.BULK_NODES):
                fail(
                    (*where, "nodes", index),
                    f"{one} is many mobile nodes",
                    "write it as `node`, in a step of its own",
                )
                continue
            alone = self.model_copy(update={"node": one, "nodes": None})
            alone.check((*where, "nodes", index), known, fail)

    def check_attachable(self, who: str, networks: Sequence[str], where: Path, fail: Fail) -> None:
        """The mobile node attaches to all of them."""
        for network in self.to:
            if network not in networks:
                hint = did_you_mean(network, networks)
                fail((*where, "to"), f"{who} does not attach to {network}", hint)

    def phrase(self) -> str:
        """What is done, as a line."""
        times = f", {self.times} times" if self.times > 1 else ""
        named = self.nodes or ([self.node] if self.node else [])
        part = f" ({self.part})" if self.part is not None else ""
        who = f" of {', '.join(named)}{part}" if named else ""
        within = f" within {format_duration(self.within)}" if self.within else ""
        return f"move{who} to {', '.join(self.to)}{within}{times}"

    def condition(self) -> str | None:
        """Where it does not reach what it has to."""
        return f"a move to {', '.join(self.to)} does not reach: {self.reaches}" if self.reaches else None

    def taps(self, facts: Facts) -> list[str]:
        """The links that the mobile node joins; of several at once, and of a crowd, none."""
        if self.nodes is not None or self._is_of_crowd(facts):
            return []
        return [f"{self.who(facts)}/{network}" for network in self.to]

    def _is_of_crowd(self, facts: Facts | Known) -> bool:
        return self.node in facts.with_role(Function.BULK_NODES)

    def act(self, lab: Actor) -> str:
        """Ask the connection manager for one move after the other; of several nodes, all at once."""
        if self._is_of_crowd(lab.facts):
            of_crowd = crowd_request(self.part, self.within / 1000)
            return self._move(lab, str(self.node), Function.BULK_NODES, of_crowd)
        nodes = self.nodes or [self.who(lab.facts)]
        for node in nodes:
            self._prepare(lab, node)
        if len(nodes) == 1:
            return self._move(lab, nodes[0])
        with ThreadPoolExecutor(len(nodes), thread_name_prefix="move") as threads:
            results = list(threads.map(lambda node: self._move(lab, node), nodes))
        return "\n".join(f"{node}: {result}" for node, result in zip(nodes, results, strict=True))

    def _prepare(self, lab: Actor, node: str) -> None:
        lab.leave(carried(node))  # undone later, it would take down the link moved to
        back = f"{node} back"  # of the first each run says where it is to begin
        if node != lab.facts.mobile_nodes[0] and not lab.is_changed(back):
            was = {"op": Op.MOVE, "network": lab.state(node, ROAM).get("network")}
            if was["network"]:
                lab.at_end(back, lambda: lab.settle(node, was))

    def _move(
        self, lab: Actor, node: str, manager: str = ROAM, of_crowd: Mapping[str, Any] | None = None
    ) -> str:
        results, reached = [], {event: step for step, event in STEPS.items()}
        for network in self.to * self.times:
            settled = lab.settle(node, {"op": Op.MOVE, "network": network, **(of_crowd or {})}, manager)
            timeline: Mapping[str, Any] = settled.get("timeline") or {}
            if self.reaches and timeline.get(reached[self.reaches]) is None:
                detail = settled.get("detail")
                raise StepError(f"moved to {network}, but did not come as far as {self.reaches}: {detail}")
            marks = ", ".join(f"{name} {ms:.0f}" for name, ms in timeline.items() if ms is not None)
            results.append(f"{network}: {settled.get('state')} ({settled.get('detail')}); ms: {marks}")
        return "\n".join(results)
