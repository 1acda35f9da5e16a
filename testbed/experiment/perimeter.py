"""What the outside finds at the border: the VPN gateways that answer, and the associations they hold."""

from __future__ import annotations

import json
import re

from testbed.experiment.access import LabAccess, StepError
from testbed.experiment.verdict import Decision
from testbed.topology.expectations import Perimeter


def perimeter(lab: LabAccess, part: Perimeter) -> Decision:
    """Ask every gateway for IKE from outside, and its charon for its associations. Raises `StepError`."""
    topology = lab.topology
    outside = {
        name: str(topology.node(name).links[topology.settings[name]["outside"]])
        for name in topology.with_role("vpn-gateway")
    }
    answers = _knock(lab, part.from_, list(outside.values())) if part.gateways else {}
    held, told = [], []
    for name, address in outside.items():
        words = [f"{name} ({address})"]
        if part.gateways:
            words.append(f"answers {answers[address]}" if answers[address] else "does not answer")
        if part.associations:
            held.append(_ike_associations(lab, name))
            words.append(f"IKE SAs established: {held[-1]}")
        told.append(", ".join(words))
    exposed = sum(one is not None for one in answers.values())
    right = (part.gateways is None or part.gateways.allows(exposed)) and (
        part.associations is None or part.associations.allows(sum(held))
    )
    totals = [f"{exposed} of {len(outside)} gateways answer"] if part.gateways else []
    totals += [f"{sum(held)} IKE SAs established"] if part.associations else []
    return right, f"{', '.join(totals)}: {'; '.join(told)}"


def _knock(lab: LabAccess, node: str, addresses: list[str]) -> dict[str, str | None]:
    done = lab.execute(node, ["python3", "-m", "testbed.node.knock", *addresses])
    if done.code:
        raise StepError(f"{node} cannot ask for IKE: {done.complaint}")
    answers: dict[str, str | None] = json.loads(done.text)
    return answers


def _ike_associations(lab: LabAccess, gateway: str) -> int:
    done = lab.execute(gateway, ["swanctl", "--list-sas"])
    if done.code:
        raise StepError(f"charon of {gateway} does not tell its SAs: {done.complaint}")
    return len(re.findall(r"^\S+: #\d+, ESTABLISHED,", done.text, re.MULTILINE))
