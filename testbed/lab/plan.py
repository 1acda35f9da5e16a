"""What should be there against what is there: the steps from one to the other."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from testbed.engine import names
from testbed.engine.api import Container, Network
from testbed.lab.addresses import prefix_length
from testbed.lab.state import ActualLab
from testbed.render import RenderedLab, RenderedNode

_FORMAT = 1
"""Counts up when the same rendered node makes another container, so that old ones are replaced."""


@dataclass(frozen=True, slots=True)
class DesiredNetwork:
    """A network of the lab as it should be."""

    name: str
    length: int  # prefix length of its throwaway subnet
    facts: str  # JSON for `status`
    spec: str


@dataclass(frozen=True, slots=True)
class DesiredNode:
    """A node of the lab as it should be."""

    rendered: RenderedNode
    image: str
    facts: str  # JSON for `status`
    spec: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.rendered.name


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


def make_plan(desired: RenderedLab, actual: ActualLab, image: str) -> Plan:
    """Compare. A node is replaced when it has changed, does not run, or is on a network that is replaced.

    `image` is for nodes that name none of their own.
    """
    networks = _desired_networks(desired)
    nodes = _desired_nodes(desired, image)
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
    create_nodes = sorted((each for name, each in nodes.items() if name not in keep_nodes), key=_start_order)
    # In the order they are waited for.
    wanted = dict.fromkeys([link for node in create_nodes for link in node.rendered.links] + list(networks))
    return Plan(
        remove_containers=tuple(remove_containers),
        remove_networks=tuple(remove_networks),
        create_networks=tuple(networks[name] for name in wanted if name not in keep_networks),
        create_nodes=tuple(create_nodes),
        keep_networks=keep_networks,
        keep_nodes=keep_nodes,
    )


def _start_order(node: DesiredNode) -> int:
    """Who converges slowest first; mobile nodes last, for they need all the others."""
    if None in node.rendered.links.values():
        return 3
    roles = node.rendered.roles
    return 0 if "ospf" in roles else 1 if "router" in roles else 2


def _desired_networks(desired: RenderedLab) -> dict[str, DesiredNetwork]:
    endpoints = Counter(link for node in desired.nodes.values() for link in node.links)
    networks: dict[str, DesiredNetwork] = {}
    for name, network in desired.topology.topology.networks.items():
        length = prefix_length(endpoints[name])
        facts = {"subnet": str(network.subnet), "domain": network.domain, "medium": network.medium}
        networks[name] = DesiredNetwork(name, length, json.dumps(facts), _hash([length, facts]))
    return networks


def _desired_nodes(desired: RenderedLab, image: str) -> dict[str, DesiredNode]:
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
            ]
        )
        nodes[name] = DesiredNode(node, own_image, json.dumps(facts), spec)
    return nodes


def _hash(parts: Any) -> str:
    text = json.dumps([_FORMAT, parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
