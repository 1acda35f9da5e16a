"""The state that every run begins from: nobody is registered, agents know of nobody, and no IPsec is up."""

from __future__ import annotations

from testbed.agreed import ROAM, Op
from testbed.claim.action import Actor
from testbed.claim.steps.flush import flush
from testbed.document.functions import Function
from testbed.errors import StepError
from testbed.experiment.claims.perform import RESTART_WITHIN


def reset(lab: Actor, node: str | None = None) -> None:
    """The defined state a run begins from: the mobile node registered nowhere, its agents' lists empty.

    Without `node` it is the lab's first mobile node.

    No IKE SA either: charon would count how long the gateway was silent while nobody was registered, and
    could give it up in the middle of the run.
    """
    node = node or lab.facts.mobile_nodes[0]
    mark = lab.mark()
    lab.control(node, ROAM, {"op": Op.FORGET})
    # What the log has yet to bring of the run before must not count as seen in this one.
    if not lab.wait(mark, lambda one: (one.node, one.name) == (node, "detached"), RESTART_WITHIN):
        raise StepError(f"the log of {node} does not say that it is detached")
    agents = [*lab.facts.home_agents(node), *lab.facts.with_role(Function.FOREIGN_AGENT)]
    flush(lab, list(dict.fromkeys(agents)))
