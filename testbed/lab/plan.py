"""What should be there against what is there: the steps from one to the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from testbed.document.functions import STATIC
from testbed.engine import names
from testbed.engine.api import Container, Network
from testbed.engine.image import resolve
from testbed.lab.addresses import prefix_length
from testbed.lab.drift import Drift
from testbed.lab.state import ActualLab
from testbed.render import RenderedLab, RenderedNode

_FORMAT = 2
"""Counts up when the same rendered node makes another container, so that old ones are replaced."""


@dataclass(frozen=True, slots=True)
class DesiredNetwork:
    """A network of the lab as it should be."""

    name: str
    length: int  # prefix length of its throwaway subnet
    facts: str  # JSON for `status`
    spec: str
    stage: int  # the lowest of its nodes'


@dataclass(frozen=True, slots=True)
class DesiredNode:
    """A node of the lab as it should be."""

    rendered: RenderedNode
    image: str
    facts: str  # JSON for `status`
    spec: str
    files: str  # JSON: path → hash
    cpus: float | None
    engine: str | None  # the name of the engine it is on, where there are several

    @property
    def name(self) -> str:
        """Its name."""
        return self.rendered.name

    @property
    def stage(self) -> int:
        """When it is made: what converges slowest first, mobile nodes last, for they need all the others."""
        if None in self.rendered.links.values():
            return 3
        routing = self.rendered.routing
        return 2 if routing is None else 1 if routing == STATIC else 0

    @property
    def upheaval(self) -> tuple[bool, bool, int]:
        """How much its replacement disturbs a lab: mobile nodes most, then routers, then many links."""
        rendered = self.rendered
        return None in rendered.links.values(), rendered.routing is not None, len(rendered.links)


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps: removals first, then what is missing."""

    remove_containers: tuple[Container, ...]
    remove_networks: tuple[Network, ...]
    create_networks: tuple[DesiredNetwork, ...]
    create_nodes: tuple[DesiredNode, ...]
    keep_networks: Mapping[str, Network]
    keep_nodes: Mapping[str, Container]
    reasons: Mapping[str, str]
    """Node that is made, replaced or removed in a lab that is there → why."""

    @property
    def empty(self) -> bool:
        """Whether everything is as it should be."""
        return not (
            self.remove_containers or self.remove_networks or self.create_networks or self.create_nodes
        )

    def __str__(self) -> str:
        def count(number: int, what: str) -> str:
            return f"{number} {what}{'' if number == 1 else 's'}"

        steps: list[str] = []
        if self.remove_containers or self.remove_networks:
            gone = (
                count(len(self.remove_containers), "node"),
                count(len(self.remove_networks), "network"),
            )
            steps.append(f"removing {gone[0]} and {gone[1]}")
        if self.create_networks or self.create_nodes:
            new = (count(len(self.create_nodes), "node"), count(len(self.create_networks), "network"))
            steps.append(f"creating {new[0]} on {new[1]}" if self.create_networks else f"creating {new[0]}")
        return ", ".join(steps) or "no node to replace"

    @property
    def explanation(self) -> list[str]:
        """A line for each reason: the nodes it holds for, and what it is."""
        nodes: dict[str, list[str]] = {}
        for node, reason in self.reasons.items():
            nodes.setdefault(reason, []).append(node)
        return [f"{', '.join(names)}: {reason}" for reason, names in nodes.items()]


def make_plan(
    desired: RenderedLab,
    actual: ActualLab,
    image: str,
    drift: Mapping[str, Drift] = MappingProxyType({}),
    *,
    cpus: float | None = None,
    relabel: bool = False,
    places: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Compare. A node is replaced when it has changed, does not run, or is on a network that is replaced.

    `image` is for nodes that name none of their own; `drift` is what was found inside running ones; `cpus` is
    what each node may use at most, None what those of the lab may use now, 0 as many as there are. With
    `relabel` at least one node is replaced, so that its labels say what the lab is brought up with. `places`
    is the engine of each node, where there are several.
    """
    cpus = actual.cpus if cpus is None else cpus or None
    nodes = _desired_nodes(desired, image, cpus, places)
    networks = _desired_networks(desired, nodes)
    keep_networks: dict[str, Network] = {}
    remove_networks: list[Network] = []
    for network in actual.networks:
        name = network.labels.get(names.NETWORK, "")
        if name in networks and network.labels.get(names.SPEC) == networks[name].spec:
            keep_networks[name] = network
        else:
            remove_networks.append(network)
    keep_nodes: dict[str, Container] = {}
    remove_containers: list[Container] = []
    reasons: dict[str, str] = {}
    for container in actual.containers:
        name = container.labels.get(names.NODE, "")
        reason = _why_not(container, nodes.get(name), keep_networks, drift.get(name))
        if reason is None:
            keep_nodes[name] = container
        else:
            remove_containers.append(container)
            reasons[name] = reason
    if relabel and nodes.keys() == keep_nodes.keys():
        name = min(nodes, key=lambda one: (nodes[one].upheaval, one))
        remove_containers.append(keep_nodes.pop(name))
        reasons[name] = "its labels are to name the template folder"
    missing = nodes.keys() - keep_nodes.keys() - reasons.keys() if actual.containers else set()
    return Plan(
        remove_containers=tuple(remove_containers),
        remove_networks=tuple(remove_networks),
        create_networks=tuple(each for name, each in networks.items() if name not in keep_networks),
        create_nodes=tuple(each for name, each in nodes.items() if name not in keep_nodes),
        keep_networks=keep_networks,
        keep_nodes=keep_nodes,
        reasons=reasons | {name: "missing" for name in nodes if name in missing},
    )


def _why_not(
    container: Container, node: DesiredNode | None, networks: Mapping[str, Network], drift: Drift | None
) -> str | None:
    """Why a container cannot stay; None where it can."""
    if node is None:
        return "not in the topology any more"
    if container.state != "running":
        return f"does not run ({container.status})"
    gone = node.rendered.links.keys() - networks.keys()
    if gone:
        return f"linked to {', '.join(sorted(gone))}, which is made anew"
    if (engine := container.labels.get(names.ENGINE)) != node.engine:
        return f"moves from engine {engine} to engine {node.engine}"
    if container.labels.get(names.SPEC) != node.spec:
        return _what_differs(container, node)
    return drift.reason if drift and drift.changes else None


def _what_differs(container: Container, node: DesiredNode) -> str:
    if container.image != node.image:
        return f"image {container.image} → {node.image}"
    old: dict[str, str] = json.loads(container.labels.get(names.FILES, "{}"))
    new: dict[str, str] = json.loads(node.files)
    changed = sorted(PurePosixPath(path).name for path in {**old, **new} if old.get(path) != new.get(path))
    return (
        f"{', '.join(dict.fromkeys(changed))} changed"
        if changed
        else "roles, links, kernel settings or limits changed"
    )


def _desired_networks(desired: RenderedLab, nodes: Mapping[str, DesiredNode]) -> dict[str, DesiredNetwork]:
    networks: dict[str, DesiredNetwork] = {}
    for name, network in desired.topology.topology.networks.items():
        stages = [node.stage for node in nodes.values() if name in node.rendered.links]
        length = prefix_length(len(stages))
        facts = {
            "subnet": str(network.subnet),
            "domain": network.domain,
            "medium": network.medium,
            "hub": network.hub,
        }
        networks[name] = DesiredNetwork(
            name, length, json.dumps(facts), _hash([length, facts]), min(stages, default=3)
        )
    return networks


def _desired_nodes(
    desired: RenderedLab, image: str, cpus: float | None, places: Mapping[str, str]
) -> dict[str, DesiredNode]:
    nodes: dict[str, DesiredNode] = {}
    for name, node in desired.nodes.items():
        facts = {
            "links": {network: str(address) if address else None for network, address in node.links.items()},
            "address": str(desired.topology.primary_address(name) or ""),
            "services": [service for service in node.ready if service != "init"],
            "functions": node.functions,
        }
        own_image = resolve(node.image) if node.image else image
        files = {path: _hash(asdict(file)) for path, file in node.files.items() if not file.live}
        spec = _hash(
            [facts, own_image, files, dict(node.sysctls), node.roles, sorted(node.capabilities), cpus]
        )
        nodes[name] = DesiredNode(
            node, own_image, json.dumps(facts), spec, json.dumps(files), cpus, places.get(name)
        )
    return nodes


def _hash(parts: Any) -> str:
    text = json.dumps([_FORMAT, parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
