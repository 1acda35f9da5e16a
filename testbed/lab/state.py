"""What the engine has of a lab, read from labels alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from testbed.document.functions import Function
from testbed.engine import names
from testbed.engine.api import Container, Engine, Network
from testbed.engine.record import parse
from testbed.errors import MachineError, UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class ActualLab:
    """The containers and networks that carry a lab's label."""

    name: str
    containers: tuple[Container, ...]
    networks: tuple[Network, ...]
    lost: Mapping[str, str] = field(default_factory=dict)
    """Those of its engines that do not answer: name → address. What it has there is not known."""

    @property
    def topology(self) -> str:
        """The name of the topology it was brought up from."""
        labels = [each.labels for each in self.containers] + [each.labels for each in self.networks]
        return next((each[names.TOPOLOGY] for each in labels if names.TOPOLOGY in each), "")

    @property
    def owner(self) -> str:
        """Whose lab it is, USER@HOST; "" where nothing says so."""
        labels = [each.labels for each in self.containers] + [each.labels for each in self.networks]
        return next((each[names.OWNER] for each in labels if names.OWNER in each), "")

    @property
    def cpus(self) -> float | None:
        """How many processors each of its nodes may use; None: as many as there are."""
        limits = [each.labels[names.CPUS] for each in self.containers if names.CPUS in each.labels]
        return float(limits[0]) if limits else None

    @property
    def engines(self) -> dict[str, str]:
        """Name → address of the engines that it is on; empty where it is on a single one."""
        labels = [each.labels for each in self.containers] + [each.labels for each in self.networks]
        written = next((each[names.ENGINES] for each in labels if names.ENGINES in each), "{}")
        return parse(written) or {}

    @property
    def places(self) -> dict[str, str]:
        """Node → the engine it is on, where there are several."""
        return {
            name: each.labels[names.ENGINE]
            for name, each in self.nodes.items()
            if names.ENGINE in each.labels
        }

    @property
    def nodes(self) -> dict[str, Container]:
        """Its nodes by name."""
        return {each.labels[names.NODE]: each for each in self.containers if names.NODE in each.labels}

    @property
    def hubs(self) -> dict[str, str]:
        """Network → its hub, for networks with one."""
        labels = [each.labels for each in self.networks if names.NETWORK in each.labels]
        facts = {each[names.NETWORK]: json.loads(each.get(names.FACTS, "{}")) for each in labels}
        return {name: each["hub"] for name, each in facts.items() if each.get("hub")}

    @property
    def mobile_nodes(self) -> list[str]:
        """Its nodes that move."""
        return [name for name, container in self.nodes.items() if node_facts(container).attaches]

    def node(self, name: str) -> Container:
        """Return a node's container.

        Raises `UsageError` with the nearest name, and `MachineError` where it may be on an engine that does
        not answer.
        """
        nodes = self.nodes
        if name not in nodes and self.lost:
            raise MachineError(
                f"no engine that answers has a node {name} of lab {self.name}; {no_answer(self.lost)}",
                hint=f"testbed status {self.name} shows the nodes that can be reached",
            )
        if name not in nodes:
            raise UsageError(f"lab {self.name} has no node {name}", hint=did_you_mean(name, nodes))
        return nodes[name]

    def running_node(self, name: str) -> Container:
        """Return a node's container that runs. Raises `UsageError`."""
        container = self.node(name)
        if container.state != "running":
            raise UsageError(
                f"node {name} of lab {self.name} does not run ({container.status})",
                hint=f"testbed logs {self.name} {name} says why; testbed up makes it anew",
            )
        return container


def read_labs(engine: Engine, lab: str | None = None) -> dict[str, ActualLab]:
    """Return every lab the engine has anything of, or only `lab`, by name."""
    wanted = {names.LAB: lab or ""}
    found = group(engine.containers(wanted), engine.networks(wanted))
    return {name: replace(one, lost=engine.lost) for name, one in found.items()}


def no_answer(lost: Mapping[str, str]) -> str:
    """Say which engines do not answer, by name and address."""
    each = [f"engine {name} ({address}) does not answer" for name, address in lost.items()]
    return " and ".join(each)


def group(containers: Iterable[Container], networks: Iterable[Network]) -> dict[str, ActualLab]:
    """Sort labelled nodes and networks by lab; what is neither is left out."""
    by_lab: dict[str, tuple[list[Container], list[Network]]] = {}
    for container in containers:
        if names.VTEP in container.labels:
            continue
        by_lab.setdefault(container.labels.get(names.LAB, ""), ([], []))[0].append(container)
    for network in networks:
        by_lab.setdefault(network.labels.get(names.LAB, ""), ([], []))[1].append(network)
    by_lab.pop("", None)
    return {
        name: ActualLab(
            name,
            tuple(sorted(found[0], key=lambda each: each.name)),
            tuple(sorted(found[1], key=lambda each: each.name)),
        )
        for name, found in sorted(by_lab.items())
    }


def check_mine(engine: Engine, name: str) -> None:
    """Raise `UsageError` where a lab is somebody else's."""
    lab = read_labs(engine, name).get(name)
    if lab is not None and lab.owner not in ("", names.owner()):
        raise UsageError(
            f"lab {name} belongs to {lab.owner}", hint=f"testbed down {name} --all-users removes it anyway"
        )


def others_labs(engine: Engine) -> list[ActualLab]:
    """Return the labs that are not known to belong to this user."""
    return [lab for lab in read_labs(engine).values() if lab.owner != names.owner()]


def nearest_lab(engine: Engine, name: str) -> str | None:
    """Return a hint on what lab may have been meant; None where there are no labs."""
    return did_you_mean(name, read_labs(engine))


def find_lab(engine: Engine, name: str) -> ActualLab:
    """Return a lab.

    Raises `UsageError` with the nearest name of those that exist, and `MachineError` where it may be on an
    engine that does not answer.
    """
    labs = read_labs(engine)
    if name not in labs and engine.lost:
        raise MachineError(
            f"no engine that answers has anything of lab {name}; {no_answer(engine.lost)}",
            hint=f"once all do, testbed down {name} removes what is left",
        )
    if name not in labs:
        from testbed.topology.load import builtin_topologies  # its models take a third of a second

        known = name in builtin_topologies()
        could = f": testbed up {name}" if known else "; testbed list names what can be brought up"
        hint = did_you_mean(name, labs) or f"no lab is up{could}"
        raise UsageError(f"there is no lab {name}", hint=hint)
    return labs[name]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node's labels say about it."""

    roles: tuple[str, ...]
    links: Mapping[str, str | None]
    """Network → address and prefix length; None for a network that a mobile node can attach to."""
    address: str
    """The address it is known by: a mobile node's home address, else one of its links."""
    services: tuple[str, ...]
    functions: tuple[str, ...]
    """Its roles and all that these act as."""

    @property
    def attaches(self) -> tuple[str, ...]:
        """The networks that a mobile node can attach to."""
        return tuple(network for network, address in self.links.items() if address is None)

    @property
    def is_crowd(self) -> bool:
        """Whether it is many mobile nodes."""
        return Function.BULK_NODES in self.functions

    @property
    def attachable(self) -> tuple[str, ...]:
        """The networks that it can attach to; a crowd has all of its links always, and attaches to any."""
        return tuple(self.links) if self.is_crowd else self.attaches


def node_facts(container: Container) -> NodeFacts:
    """Read them."""
    facts = json.loads(container.labels.get(names.FACTS, "{}"))
    return NodeFacts(
        roles=tuple(container.labels.get(names.ROLES, "").split()),
        links=facts.get("links", {}),
        address=facts.get("address", ""),
        services=tuple(facts.get("services", ())),
        functions=tuple(facts.get("functions", ())),
    )


def endpoints(container: Container) -> dict[str, IPv4Address]:
    """Return the throwaway address of a node on each of its networks."""
    found = json.loads(container.labels.get(names.ENDPOINTS, "{}"))
    return {network: IPv4Address(address) for network, address in found.items()}
