"""A lab as a Docker Compose project (v2, and docker-compose 1.29) that comes to life without testbed.

What `up` does through the engine's API is in `compose.yaml`: networks that are plain wires, with throwaway
subnets, and nodes with the capabilities that they need. A node's files are in `nodes/NAME/`, where they may
be edited; its first command copies them to where they belong. `image/` builds the node image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from ipaddress import IPv4Network
from shlex import quote
from typing import Any, Final

import yaml

from testbed.engine.api import BASE_CAPABILITIES, MEMORY_LIMIT, PIDS_LIMIT
from testbed.engine.docker import BRIDGE_OPTIONS, LOG_CONFIG, TUN_DEVICE
from testbed.engine.image import ContextFile, standalone_context
from testbed.lab.addresses import (
    ENDPOINTS,
    SubnetPool,
    endpoint_addresses,
    endpoints_text,
    prefix_length,
)
from testbed.render import RenderedLab, RenderedNode

_READABLE: Final = 0o444


@dataclass(frozen=True, slots=True)
class ComposeProject:
    """What `testbed export` writes."""

    files: tuple[ContextFile, ...]
    """Its files, with their paths in the project's folder."""
    left_out: tuple[str, ...]
    """What the topology asks for and the project does not do, in words."""


def compose_project(lab: RenderedLab, image: str, pool: IPv4Network) -> ComposeProject:
    """The project of a lab, whose nodes run `image`, with subnets out of `pool`.

    Raises `MachineError` where the pool is too small.
    """
    document, endpoints = _document(lab, image, pool)
    written = [ContextFile("compose.yaml", _yaml(lab, document)), ContextFile("lab", _script(), 0o755)]
    for node in lab.nodes.values():
        for path, file in node.files.items():
            # Without DAC_OVERRIDE root in the node reads what all may read; the folder itself is the owner's.
            place = f"nodes/{node.name}{path}"
            written.append(ContextFile(place, file.content.encode(), file.mode | _READABLE))
        place = f"nodes/{node.name}{ENDPOINTS}"
        written.append(ContextFile(place, endpoints[node.name].encode()))
    written += [replace(file, path=f"image/{file.path}") for file in standalone_context()]
    return ComposeProject(tuple(written), tuple(_left_out(lab)))


def _document(lab: RenderedLab, image: str, pool: IPv4Network) -> tuple[dict[str, Any], dict[str, str]]:
    """compose.yaml, and of each node what init reads to know its interfaces by."""
    subnets = SubnetPool(pool, (), lab=lab.name)
    networks, addresses = {}, {}
    for name in lab.topology.topology.networks:
        users = sum(name in node.links for node in lab.nodes.values())
        subnet = subnets.take(prefix_length(users))
        addresses[name] = endpoint_addresses(subnet, ())
        networks[name] = {
            "driver": "bridge",
            "driver_opts": dict(BRIDGE_OPTIONS),
            "ipam": {"config": [{"subnet": str(subnet)}]},
        }
    services, endpoints = {}, {}
    mobile = lab.topology.mobile_nodes
    for node in lab.nodes.values():
        own = {network: str(next(addresses[network])) for network in node.links}
        services[node.name] = _service(node, image, own)
        if node.name in mobile:  # which needs all the others
            services[node.name]["depends_on"] = [name for name in lab.nodes if name not in mobile]
        endpoints[node.name] = endpoints_text(own)
    return {"services": services, "networks": networks}, endpoints


def _service(node: RenderedNode, image: str, addresses: Mapping[str, str]) -> dict[str, Any]:
    secret = [quote(path) for path, file in node.files.items() if file.mode & _READABLE != _READABLE]
    private = f" && chmod go= {' '.join(secret)}" if secret else ""
    build = {"build": "./image"} if node.image is None else {}
    return {
        "image": node.image or image,
        **build,
        "hostname": node.name,
        "command": ["sh", "-c", f"cp -r /node/. /{private} && exec /sbin/testbed-init"],
        "volumes": [f"./nodes/{node.name}:/node:ro"],
        "cap_drop": ["ALL"],
        "cap_add": sorted(BASE_CAPABILITIES | node.capabilities),
        "security_opt": ["no-new-privileges"],
        "devices": [f"{TUN_DEVICE}:{TUN_DEVICE}"],
        "sysctls": dict(node.sysctls),
        "mem_limit": MEMORY_LIMIT,
        "pids_limit": PIDS_LIMIT,
        "restart": "no",
        "logging": {"driver": LOG_CONFIG.type, "options": dict(LOG_CONFIG.config)},
        "networks": {network: {"ipv4_address": address} for network, address in addresses.items()},
    }


def _left_out(lab: RenderedLab) -> Iterator[str]:
    for name, network in lab.topology.topology.networks.items():
        if network.hub is None and any((network.delay, network.jitter, network.loss, network.rate)):
            yield f"network {name} has no hub: delay, jitter, loss and rate there need `testbed up`"


def _yaml(lab: RenderedLab, document: Mapping[str, Any]) -> bytes:
    head = (
        f"# {lab.topology.topology.title}: `testbed export {lab.topology.name} --format compose` wrote it.\n"
    )
    return (head + yaml.safe_dump(document, sort_keys=False, width=110)).encode()


def _script() -> bytes:
    return files("testbed.export").joinpath("lab.sh").read_bytes()
