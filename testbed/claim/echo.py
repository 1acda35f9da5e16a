"""Echo requests from one node to another."""

from __future__ import annotations

import re
from typing import Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from testbed.claim.names import NodeName
from testbed.claim.sight import Lab
from testbed.document.part import Part
from testbed.errors import StepError


class Path(Part):
    """A way from a node to another."""

    from_: NodeName = Field(alias="from", description="The node that asks")
    to: NodeName = Field(description="The node that answers")
    source: str | None = Field(
        default=None, description="The sender's address: `home` for its home address, or one of its networks"
    )


class Answers(TypedDict):
    """How many echo requests were sent and answered, and why none could be sent."""

    sent: int
    answered: int
    reason: NotRequired[str]


def source_address(lab: Lab, node: str, source: str) -> str:
    """The address that `source` of a step or expectation means. Raises `StepError`."""
    if source == "home":
        address = lab.facts.home_address(node)
        if address is None:
            raise StepError(f"{node} has no home address")
        return str(address)
    done = lab.execute(node, ["ip", "-4", "-o", "address", "show", "dev", source])
    match = re.search(r"inet (\S+)/", done.text)
    if match is None:
        raise StepError(f"{node} has no address on {source}")
    return match[1]


def ping(lab: Lab, path: Path, *, count: int) -> dict[str, Any]:
    """Send echo requests; returns how many were `sent` and `answered`. Raises `StepError`.

    Where the node has no way to send them, nothing was answered, for the `reason` that it gives.
    """
    target = lab.facts.primary_address(path.to)
    if target is None:
        raise StepError(f"{path.to} has no address")
    source = ["-I", source_address(lab, path.from_, path.source)] if path.source else []
    command = ["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", "1", *source, str(target)]
    done = lab.execute(path.from_, command, within=count * 0.2 + 8)
    match = re.search(r"(\d+) packets transmitted, (\d+) received", done.text)
    if match:
        return {"sent": int(match[1]), "answered": int(match[2])}
    if "unreachable" in done.complaint:
        return {"sent": 0, "answered": 0, "reason": done.complaint}
    raise StepError(f"ping from {path.from_}: {done.complaint}")


def answers(seen: dict[str, Any]) -> str:
    """What `ping` returned, in words."""
    return str(seen.get("reason") or f"{seen['answered']} of {seen['sent']} echo requests answered")
