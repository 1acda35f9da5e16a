"""What the outside finds at the border: the VPN gateways that answer, and the associations they hold."""

from __future__ import annotations

import json

from testbed.claim.expectations import Perimeter
from testbed.experiment.captures import Captures
from testbed.experiment.verdict import Decision
from testbed.lab.access import LabAccess, StepError
from testbed.topology.loaded import LoadedTopology


def border(topology: LoadedTopology) -> list[str]:
    """The taps where what the outside sends arrives: the gateways', and those of firewalls before them."""
    nodes = dict.fromkeys((*topology.with_role("firewall"), *topology.with_role("vpn-gateway")))
    return [f"{name}/{topology.settings[name]['outside']}" for name in nodes]


def perimeter(lab: LabAccess, captures: Captures, part: Perimeter) -> Decision:
    """Ask every gateway for IKE from outside, and its charon for its associations. Raises `StepError`."""
    topology = lab.topology
    outside = {
        name: str(topology.node(name).links[topology.settings[name]["outside"]])
        for name in topology.with_role("vpn-gateway")
    }
    knocked = _knock(lab, part.from_, list(outside.values())) if part.gateways else {}
    exposed = untold = associations = 0
    told = []
    for name, address in outside.items():
        words = [f"{name} ({address})"]
        if part.gateways:
            spi, answer = knocked[address]["spi"], knocked[address]["answer"]
            problem = None if answer else _unseen(captures, border(topology), bytes.fromhex(str(spi)))
            exposed += answer is not None
            untold += problem is not None
            words.append(f"answers {answer}" if answer else "does not answer")
            words += [problem] if problem else []
        if part.associations:
            number = _ike_associations(lab, name)
            associations += number
            words.append(f"IKE SAs established: {number}")
        told.append(", ".join(words))
    parts = [
        part.gateways.decides(exposed, exposed + untold) if part.gateways else True,
        part.associations.allows(associations) if part.associations else True,
    ]
    totals = [f"{exposed} of {len(outside)} gateways answer"] if part.gateways else []
    totals += [f"{associations} IKE SAs established"] if part.associations else []
    held = False if False in parts else None if None in parts else True
    too_much = (part.gateways is not None and exposed > part.gateways.highest) or (
        part.associations is not None and associations > part.associations.highest
    )
    return Decision(held, f"{', '.join(totals)}: {'; '.join(told)}", too_much)


def _knock(lab: LabAccess, node: str, addresses: list[str]) -> dict[str, dict[str, str | None]]:
    done = lab.execute(node, ["python3", "-m", "testbed.node.knock", *addresses])
    if done.code:
        raise StepError(f"{node} cannot ask for IKE: {done.complaint}")
    answers: dict[str, dict[str, str | None]] = json.loads(done.text)
    return answers


def _unseen(captures: Captures, taps: list[str], spi: bytes) -> str | None:
    """Why the silence of a gateway does not say that it is closed; None where it does.

    The request has to have come as far as the border, and no answer may have been sent that was lost.
    """

    def seen(expression: str) -> bool:
        matches = captures.match_all(taps, expression)
        return any(spi in packet for match in matches for packet in match.packets)

    if not seen("udp dst port 500"):
        return f"but the request was not seen at {' nor '.join(taps)}"
    return "but an answer was sent" if seen("udp src port 500") else None


def _ike_associations(lab: LabAccess, gateway: str) -> int:
    """The peers it has an IKE SA with; of one that negotiated again the old SA stays for some seconds."""
    done = lab.execute(gateway, ["python3", "-m", "testbed.node.ike_sas"])
    if done.code:
        raise StepError(f"charon of {gateway} does not tell its SAs: {done.complaint}")
    return len({sa["remote-id"] for sa in json.loads(done.text) if sa["state"] == "ESTABLISHED"})
