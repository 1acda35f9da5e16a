"""What a lab is doing: labels, the engine's word on its containers, what the daemons say."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from testbed.agreed import ROAM
from testbed.document.functions import Function
from testbed.engine import names
from testbed.engine.api import Container, Engine
from testbed.errors import TestbedError
from testbed.lab.daemons import CUT, ask_all
from testbed.lab.state import ActualLab, node_facts
from testbed.lab.tasks import WORKERS


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node."""

    name: str
    roles: tuple[str, ...]
    state: str  # the engine's: running, exited, …
    status: str  # the engine's, for people
    functions: tuple[str, ...]  # its roles and all that these act as
    links: Mapping[str, str | None]
    address: str  # the node's primary address
    image: str
    services: Mapping[str, Mapping[str, Any] | None]
    """What each daemon with a control socket says of itself; None for a daemon that does not answer."""
    problem: str | None = None  # why nothing is known of its services
    engine: str | None = None  # the name of the engine it is on, where the lab is on several

    @property
    def failed(self) -> tuple[str, ...]:
        """The networks to which its links have failed (`testbed fail`)."""
        return tuple(name.removeprefix(CUT) for name in self.services if name.startswith(CUT))


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """One network."""

    name: str
    subnet: str
    domain: str
    medium: str
    throwaway: str  # the subnet in the engine's books
    mtu: int | None = None  # of its links, where the lab is on several engines


@dataclass(frozen=True, slots=True)
class LabStatus:
    """One lab."""

    name: str
    topology: str
    nodes: tuple[NodeStatus, ...]
    networks: tuple[NetworkStatus, ...]
    engines: Mapping[str, str] = field(default_factory=dict)
    """Name → address of the engines that it is on; empty where it is on a single one."""
    lost: Mapping[str, str] = field(default_factory=dict)
    """Those of them that do not answer: nothing is known of the nodes there."""

    @property
    def mtu(self) -> int | None:
        """Of its links, where it is on several engines."""
        return min((network.mtu for network in self.networks if network.mtu), default=None)

    @property
    def running(self) -> int:
        """How many nodes run."""
        return sum(node.state == "running" for node in self.nodes)

    @property
    def backends(self) -> dict[str, dict[str, str]]:
        """Node → service → what carries its packets: a kernel's facility or a program of ours."""
        found: dict[str, dict[str, str]] = {}
        for node in self.nodes:
            for service, state in node.services.items():
                if state and (backend := state.get("backend")):
                    found.setdefault(node.name, {})[service] = str(backend)
        return found

    @property
    def mobile(self) -> dict[str, Mapping[str, Any] | None]:
        """Mobile node → what its connection manager says."""
        return {node.name: node.services[ROAM] for node in self.nodes if ROAM in node.services}

    def suggestions(self) -> list[str]:
        """Three commands worth trying next."""
        inspect = [f"testbed status {self.name}", f"testbed logs {self.name} --follow"]
        for node in self.nodes:
            networks = [network for network, address in node.links.items() if address is None]
            peers = [other.name for other in self.nodes if Function.CORRESPONDENT in other.functions]
            if not networks or not peers:
                continue
            here = (self.mobile.get(node.name) or {}).get("network")
            there = networks[(networks.index(here) + 1) % len(networks)] if here in networks else networks[0]
            return [
                f"testbed exec {self.name} {node.name} -- ping -c 3 {peers[0]}",
                f"testbed move {self.name} {node.name} {there}",
                inspect[0],
            ]
        return [*inspect, f"testbed shell {self.name} {self.nodes[0].name}"] if self.nodes else []

    def summary(self) -> dict[str, Any]:
        """What a list of labs has of it, for JSON."""
        return {
            "lab": self.name,
            "topology": self.topology,
            "nodes": len(self.nodes),
            "running": self.running,
            "networks": len(self.networks),
        }

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "lab": self.name,
            "topology": self.topology,
            "running": self.running,
            "nodes": {
                node.name: {
                    "roles": list(node.roles),
                    "state": node.state,
                    "status": node.status,
                    "links": dict(node.links),
                    "address": node.address,
                    "image": node.image,
                    "services": dict(node.services),
                    "problem": node.problem,
                    "engine": node.engine,
                }
                for node in self.nodes
            },
            "networks": {
                network.name: {
                    "subnet": network.subnet,
                    "domain": network.domain,
                    "medium": network.medium,
                    "throwaway": network.throwaway,
                    "mtu": network.mtu,
                }
                for network in self.networks
            },
            "backends": self.backends,
            "engines": dict(self.engines),
            "lost": dict(self.lost),
        }


def lab_status(engine: Engine, lab: ActualLab, *, ask: Collection[str] | None = None) -> LabStatus:
    """Look at a lab; `ask` names the nodes whose daemons are asked (None: all), by one exec each."""
    networks = []
    for network in lab.networks:
        facts = json.loads(network.labels.get(names.FACTS, "{}"))
        networks.append(
            NetworkStatus(
                name=network.labels.get(names.NETWORK, network.name),
                subnet=facts.get("subnet", ""),
                domain=facts.get("domain", ""),
                medium=facts.get("medium", ""),
                throwaway=", ".join(map(str, network.subnets)),
                mtu=int(network.labels[names.MTU]) if names.MTU in network.labels else None,
            )
        )

    def look(name: str) -> NodeStatus:
        return _node_status(engine, name, lab.nodes[name], ask is None or name in ask)

    with ThreadPoolExecutor(WORKERS) as threads:
        nodes = tuple(threads.map(look, lab.nodes))
    return LabStatus(lab.name, lab.topology, nodes, tuple(networks), lab.engines, lab.lost)


def _node_status(engine: Engine, name: str, container: Container, ask: bool) -> NodeStatus:
    facts = node_facts(container)
    services: Mapping[str, Mapping[str, Any] | None] = {}
    problem = None
    if ask and container.state == "running":
        try:
            services = ask_all(engine, container)
        except TestbedError as error:
            problem = error.message
    return NodeStatus(
        name=name,
        roles=facts.roles,
        functions=facts.functions,
        state=container.state,
        status=container.status,
        links=facts.links,
        address=facts.address,
        image=container.image,
        services=services,
        problem=problem,
        engine=container.labels.get(names.ENGINE),
    )
