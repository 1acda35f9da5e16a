"""A single mobile node of a crowd: what it reports, and what its home agent knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from testbed.agreed import Op
from testbed.document.functions import Function
from testbed.document.values import AddressRange, parse_range
from testbed.engine.api import Engine
from testbed.errors import UsageError
from testbed.lab.daemons import ask
from testbed.lab.state import ActualLab, node_facts


@dataclass(frozen=True, slots=True)
class Report:
    """What a node of the lab reports of a mobile node."""

    node: str
    service: str
    """`mobile-node`, or `home-agent`."""
    state: Mapping[str, Any]


def crowd_homes(engine: Engine, lab: ActualLab, node: str) -> AddressRange | None:
    """The home addresses of a crowd; None for a node that is a single mobile node, or none."""
    if not node_facts(lab.node(node)).is_crowd:
        return None
    state = ask(engine, lab.running_node(node), Function.BULK_NODES, {"op": Op.STATE})
    return parse_range("-".join(state["homes"]))


def reports(engine: Engine, lab: ActualLab, home: IPv4Address) -> list[Report]:
    """What is known of the mobile node of a crowd that has a home address: by itself, and by home agents.

    Raises `UsageError` where no crowd of the lab has it, `TestbedError` where one does not answer.
    """
    homes = {name: crowd_homes(engine, lab, name) for name in lab.nodes}
    crowds = {name: each for name, each in homes.items() if each is not None}
    found = [name for name, each in crowds.items() if home in each]
    if not found:
        hint = "; ".join(f"{name} has {each}" for name, each in crowds.items()) or "no node is a crowd"
        raise UsageError(f"no crowd of lab {lab.name} has the home address {home}", hint=hint)
    request = {"op": "node", "home_address": str(home)}
    known = [
        Report(name, Function.MOBILE_NODE, ask(engine, lab.node(name), Function.BULK_NODES, request))
        for name in found
    ]
    for name, container in lab.nodes.items():
        if Function.HOME_AGENT in node_facts(container).functions:
            state = ask(engine, container, Function.HOME_AGENT, {**request, "op": "binding"})
            if state["care_of_addresses"]:
                known.append(Report(name, Function.HOME_AGENT, {"bindings": [state]}))
    return known
