"""What should be there against what is there: the steps from one to the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from testbed.engine import names
from testbed.engine.api import Container, Network
from testbed.lab.addresses import prefix_length
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
    cpus: float | None

    @property
    def name(self) -> str:
        """Its name."""
        return self.rendered.name

    @property
    def stage(self) -> int:
        """When it is made: who converges slowest first, mobile nodes last, for they need all the others."""
        if None in self.rendered.links.values():
            return 3
        roles = self.rendered.roles
        return 0 if "ospf" in roles else 1 if "router" in roles else 2


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps: removals first, then what is missing."""

    remove_containers: tuple[Container, ...]
    remove_networks: tuple[Network, ...]
    create_networks: tuple[DesiredNetwork, ...]
    create_nodes: tuple[DesiredNode, ...]
    keep_networks: Mapping[str, Network]
    keep_nodes: Mapping[str, Container]

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
        return ", ".join(steps) or "nothing to do"


def make_plan(desired: RenderedLab, actual: ActualLab, image: str, *, cpus: float | None = None) -> Plan:
    """Compare. A node is replaced when it has changed, does not run, or is on a network that is replaced.

    `image` is for nodes that name none of their own; `cpus` is what each node may use at most, None
    what those of the lab may use now.
    """
    cpus = actual.cpus if cpus is None else cpus
    nodes = _desired_nodes(desired, image, cpus)
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
    for container in actual.containers:
        node = nodes.get(container.labels.get(names.NODE, ""))
        if (
            node is not None
            and container.state == "running"
            and container.labels.get(names.SPEC) == node.spec
            and keep_networks.keys() >= node.rendered.links.keys()
        ):
            keep_nodes[node.name] = container
        else:
            remove_containers.append(container)
    return Plan(
        remove_containers=tuple(remove_containers),
        remove_networks=tuple(remove_networks),
        create_networks=tuple(each for name, each in networks.items() if name not in keep_networks),
        create_nodes=tuple(each for name, each in nodes.items() if name not in keep_nodes),
        keep_networks=keep_networks,
        keep_nodes=keep_nodes,
    )


def _desired_networks(desired: RenderedLab, nodes: Mapping[str, DesiredNode]) -> dict[str, DesiredNetwork]:
    networks: dict[str, DesiredNetwork] = {}
    for name, network in desired.topology.topology.networks.items():
        stages = [node.stage for node in nodes.values() if name in node.rendered.links]
        length = prefix_length(len(stages))
        facts = {"subnet": str(network.subnet), "domain": network.domain, "medium": network.medium}
        networks[name] = DesiredNetwork(
            name, length, json.dumps(facts), _hash([length, facts]), min(stages, default=3)
        )
    return networks


def _desired_nodes(desired: RenderedLab, image: str, cpus: float | None) -> dict[str, DesiredNode]:
    nodes: dict[str, DesiredNode] = {}
    for name, node in desired.nodes.items():
        facts = {
            "links": {network: str(address) if address else None for network, address in node.links.items()},
            "address": str(desired.topology.primary_address(name) or ""),
            "services": [service for service in node.ready if service != "init"],
        }
        own_image = node.image or image
        spec = _hash(
            [
                facts,
                own_image,
                {path: asdict(file) for path, file in node.files.items()},
                dict(node.sysctls),
                node.roles,
                sorted(node.capabilities),
                cpus,
            ]
        )
        nodes[name] = DesiredNode(node, own_image, json.dumps(facts), spec, cpus)
    return nodes


def _hash(parts: Any) -> str:
    text = json.dumps([_FORMAT, parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
