"""Echo requests from one node to another."""

from __future__ import annotations

import re

from testbed.claim.expectations import Path
from testbed.lab.access import LabAccess, StepError


def source_address(lab: LabAccess, node: str, source: str) -> str:
    """The address that `source` of a step or expectation means. Raises `StepError`."""
    if source == "home":
        address = lab.topology.home_address(node)
        if address is None:
            raise StepError(f"{node} has no home address")
        return str(address)
    done = lab.execute(node, ["ip", "-4", "-o", "address", "show", "dev", source])
    match = re.search(r"inet (\S+)/", done.text)
    if match is None:
        raise StepError(f"{node} has no address on {source}")
    return match[1]


def ping(lab: LabAccess, path: Path, *, count: int) -> tuple[int, str]:
    """Send echo requests; returns how many were answered, and that in words. Raises `StepError`."""
    target = lab.topology.primary_address(path.to)
    if target is None:
        raise StepError(f"{path.to} has no address")
    source = ["-I", source_address(lab, path.from_, path.source)] if path.source else []
    command = ["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", "1", *source, str(target)]
    done = lab.execute(path.from_, command, within=count * 0.2 + 8)
    match = re.search(r"(\d+) packets transmitted, (\d+) received", done.text)
    if match:
        return int(match[2]), f"{match[2]} of {match[1]} echo requests answered"
    if "unreachable" in done.complaint:
        return 0, done.complaint
    raise StepError(f"ping from {path.from_}: {done.complaint}")
