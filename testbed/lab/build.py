"""Making the networks and containers of one lab."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from threading import Lock
from typing import Final
from uuid import uuid4

from testbed.engine import names
from testbed.engine.api import (
    ContainerSpec,
    Endpoint,
    Engine,
    NameTakenError,
    NetworkSpec,
    NotFoundError,
    SubnetOverlapError,
)
from testbed.errors import MachineError, UsageError
from testbed.lab.addresses import (
    ENDPOINTS,
    POOL_VARIABLE,
    SubnetPool,
    endpoint_addresses,
    endpoints_text,
)
from testbed.lab.archive import node_archive
from testbed.lab.choices import Choices
from testbed.lab.plan import DesiredNetwork, DesiredNode, Plan
from testbed.lab.secrets import secrets_file, used_secrets
from testbed.lab.state import endpoints
from testbed.render import RenderedFile, Secrets

_ATTEMPTS: Final = 32  # subnets tried for a network before we believe that the engine dislikes the whole pool


class Builder:
    """Makes what a plan lacks; threads may share it. Everything it makes is labelled with its `run`."""

    def __init__(
        self,
        engine: Engine,
        lab: str,
        topology: str,
        secrets: Secrets,
        choices: Choices,
        plan: Plan,
        subnets: SubnetPool,
    ) -> None:
        self.engine = engine
        self.plan = plan
        self.run = uuid4().hex
        self._lab = lab
        self._labels = {
            names.LAB: lab,
            names.TOPOLOGY: topology,
            names.RUN: self.run,
            names.OWNER: names.owner(),
        }
        self._secrets = secrets
        self._choices = choices.text
        self._subnets = subnets
        self._lock = Lock()
        self._addresses: dict[str, Iterator[IPv4Address]] = {}
        # A node that is replaced gets its old addresses, hence the link addresses that its neighbours know.
        wanted = {node.name for node in plan.create_nodes}
        self._previous = {
            container.labels[names.NODE]: endpoints(container)
            for container in plan.remove_containers
            if container.labels.get(names.NODE) in wanted
        }
        kept = [endpoints(container) for container in plan.keep_nodes.values()]
        kept += self._previous.values()
        for name, network in plan.keep_networks.items():
            used = [addresses[name] for addresses in kept if name in addresses]
            self._addresses[name] = endpoint_addresses(network.subnets[0], used)

    def create_network(self, network: DesiredNetwork) -> None:
        """Create a network on a subnet that the engine accepts. Raises `MachineError`, `UsageError`."""
        subnet = self._create_network(network)
        self._addresses[network.name] = endpoint_addresses(subnet, ())

    def _create_network(self, network: DesiredNetwork) -> IPv4Network:
        labels = self._labels | {
            names.NETWORK: network.name,
            names.SPEC: network.spec,
            names.FACTS: network.facts,
        }
        name = names.network_name(self._lab, network.name)
        refusal: SubnetOverlapError | None = None
        for _ in range(_ATTEMPTS):
            subnet = self._subnets.take(network.length)
            try:
                self.engine.create_network(NetworkSpec(name, subnet, labels))
            except SubnetOverlapError as error:
                refusal = error  # somebody else's, made since we looked, or a route that only the engine sees
            except NameTakenError as error:
                raise self._taken(name) from error
            else:
                return subnet
        assert refusal is not None
        raise MachineError(
            f"the engine took none of {_ATTEMPTS} subnets for network {network.name}: {refusal.message}",
            hint=f"choose another address pool: --pool PREFIX or {POOL_VARIABLE}=PREFIX",
        ) from refusal

    def create_node(self, node: DesiredNode) -> str:
        """Create a node's container on its networks, which exist; return its id."""
        addresses = self._take_addresses(node)
        secrets = used_secrets(self._secrets, node.rendered.files)
        files = {
            **({names.SECRETS_FILE: secrets_file(secrets)} if secrets else {}),
            **node.rendered.files,
            ENDPOINTS: RenderedFile(endpoints_text(addresses)),
        }
        spec = ContainerSpec(
            name=names.container_name(self._lab, node.name),
            hostname=node.name,
            image=node.image,
            labels=self._labels
            | ({names.CPUS: f"{node.cpus:g}"} if node.cpus else {})
            | ({names.ENGINE: node.engine} if node.engine else {})
            | {
                names.NODE: node.name,
                names.ROLES: " ".join(node.rendered.roles),
                names.SPEC: node.spec,
                names.FACTS: node.facts,
                names.FILES: node.files,
                names.CHOICES: self._choices,
                names.SECRETS: " ".join(secrets),
                names.ENDPOINTS: json.dumps({name: str(address) for name, address in addresses.items()}),
            },
            endpoints=tuple(
                Endpoint(names.network_name(self._lab, network), address)
                for network, address in addresses.items()
            ),
            archive=node_archive(files),
            sysctls=node.rendered.sysctls,
            capabilities=node.rendered.capabilities,
            cpus=node.cpus,
        )
        try:
            return self.engine.create_container(spec)
        except NameTakenError as error:
            raise self._taken(spec.name) from error
        except NotFoundError as error:
            if self.engine.has_image(spec.image):
                raise
            raise MachineError(
                f"the engine has no image {spec.image}, which node {node.name} is to run",
                hint="testbed build makes the testbed's own; fetch others with docker pull",
            ) from error

    def _take_addresses(self, node: DesiredNode) -> dict[str, IPv4Address]:
        previous = self._previous.get(node.name, {})
        with self._lock:
            return {
                network: previous[network]
                if network in previous and network in self.plan.keep_networks
                else next(self._addresses[network])
                for network in node.rendered.links
            }

    def _taken(self, name: str) -> UsageError:
        return UsageError(
            f"{name} exists in the engine already, and was not part of lab {self._lab} a moment ago",
            hint="another testbed is bringing up this lab, or a lab whose name is alike; choose --name",
        )
