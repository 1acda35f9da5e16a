"""What whoever watches may do to the lab: move a mobile node, its IPsec up or down, fail and heal a link."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from testbed.agreed import ROAM, SETTLED, Op
from testbed.engine.api import Engine
from testbed.errors import UsageError
from testbed.lab.daemons import converse
from testbed.lab.failures import fail, heal
from testbed.lab.move import in_words, move
from testbed.lab.state import find_lab

ACTIONS = ("move", "ipsec", "fail", "heal")


def act(engine: Engine, lab: str, action: str, subject: str, how: str = "") -> str:
    """Carry out an action, and return what came of it in a line.

    `move NODE NETWORK`, `ipsec NODE up|down`, `fail PLACE` and `heal PLACE`, where a place is NODE or
    NODE/NETWORK. Raises `UsageError` for anything else, and `TestbedError` where it cannot be done.
    """
    found = find_lab(engine, lab)
    settled: dict[str, Any] = {}
    if action == "move":
        with closing(move(engine, found, subject, how)) as events:
            for event in events:
                settled = event
        return in_words(engine, found, subject, settled)
    if action == "ipsec" and how in ("up", "down"):
        container = found.running_node(subject)
        with closing(converse(engine, container, ROAM, {"op": Op.IPSEC, "action": how})) as messages:
            settled = next((each for each in messages if each.get("event") == SETTLED), {})
        return f"{subject}: IPsec {how}: {settled.get('state')} ({settled.get('detail')})"
    if action == "fail":
        return f"failed: {', '.join(fail(engine, lab, subject))}"
    if action == "heal":
        return f"healed: {', '.join(heal(engine, lab, subject))}"
    raise UsageError(f"no action {action} {how}".rstrip(), hint=f"actions: {', '.join(ACTIONS)}")
