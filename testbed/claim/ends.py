"""Between whom traffic of steps runs."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from testbed.claim.echo import source_address
from testbed.claim.sight import Facts, Lab
from testbed.errors import StepError


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of traffic between the mobile node and a correspondent."""

    source: str
    """The home address of the mobile node."""
    correspondent: str
    """The correspondent node."""
    address: str
    """Its address."""


def ends(facts: Facts, correspondent: str | None = None) -> Ends:
    """Traffic from the first mobile node to a node, its `probe` unless that is named. Raises `StepError`."""
    node = facts.mobile_nodes[0]
    name = correspondent or facts.correspondent(node)
    if name is None:
        raise StepError(f"{node} has no `probe` node; say `to:`")
    address = facts.primary_address(name)
    if not isinstance(address, IPv4Address):
        raise StepError(f"{name} has no address")
    return Ends(str(facts.home_address(node)), name, str(address))


def address_of(lab: Lab, end: str) -> str:
    """The address that an end is (`names.End`); a mobile node on a network is asked. Raises `StepError`."""
    node, _, network = end.partition("/")
    links = lab.facts.nodes[node].links
    fixed = links.get(network) if network else lab.facts.primary_address(node)
    if fixed is None and not network:
        raise StepError(f"{node} has no address")
    return str(fixed) if fixed else source_address(lab, node, network)
