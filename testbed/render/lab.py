"""Rendering a whole lab: for each node the files, kernel settings and services its roles ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any, Final

from testbed.render.templates import Templates
from testbed.render.view import NodeView
from testbed.topology.loaded import LoadedTopology
from testbed.topology.names import host_addresses
from testbed.topology.roles import FileSpec
from testbed.topology.routes import static_routes

BASE_SYSCTLS = {"net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.default.rp_filter": "0"}
"""Mobile IP routes by source address: strict reverse-path filtering would drop what the protocol needs."""


_HIDDEN: Final = "<redacted>"


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of one lab; every lab has its own."""

    ike_psk: str
    """The pre-shared key of IKEv2 between VPN clients and gateways."""
    mobility_key: str
    """The key of the mobility security associations (RFC 5944 §5.1): 16 octets in hexadecimal."""

    @property
    def outer_key(self) -> str:
        """That of a home agent outside, of two (RFC 5265): from it nobody learns the other."""
        if self.mobility_key == _HIDDEN:
            return _HIDDEN
        return blake2b(b"outer", key=self.mobility_key.encode(), digest_size=16).hexdigest()


REDACTED: Final = Secrets(ike_psk=_HIDDEN, mobility_key=_HIDDEN)
"""In the place of a lab's secrets where files are shown that others may read."""


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """The content of one file in a node, and its permissions."""

    content: str
    mode: int = 0o644
    live: bool = False
    """Whether a running node takes a change of it over (`roles.FileSpec`)."""

    def write(self, path: Path) -> None:
        """Write it with its permissions, and its folders; nobody else can read it at any moment before."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_text(self.content, encoding="utf-8")
        path.chmod(self.mode)


@dataclass(frozen=True, slots=True)
class RenderedNode:
    """All that makes a container this node."""

    name: str
    roles: tuple[str, ...]
    functions: tuple[str, ...]
    """Its roles and all that these act as."""
    routing: str | None
    """How a router knows its routes (`Cast.routing`); None for other nodes."""
    files: Mapping[str, RenderedFile]
    """Absolute path → file."""
    sysctls: Mapping[str, str]
    ready: tuple[str, ...]
    """Who has to report before the node is ready: `init` and services."""
    image: str | None
    """A container image other than the testbed's own."""
    capabilities: frozenset[str]
    """What its roles need beyond what every node has."""
    links: Mapping[str, IPv4Interface | None]
    """Network → address; None for a link that is down until a mobile node attaches."""


@dataclass(frozen=True, slots=True)
class RenderedLab:
    """A topology rendered under a lab's name."""

    name: str
    topology: LoadedTopology
    nodes: Mapping[str, RenderedNode]


def render_lab(
    topology: LoadedTopology,
    *,
    lab: str,
    secrets: Secrets,
    templates: Path | None = None,
    session_keys: bool = False,
) -> RenderedLab:
    """Render every node.

    `templates` is a user's own folder, searched before the built-in one. With `session_keys` the IKE daemons
    write every key that they negotiate to their logs. Raises `TopologyError` with the
    template's file and line where a template is missing, malformed or asks for something that is not there.
    """
    loader = Templates(templates)
    views = {name: NodeView(topology, name) for name in topology.topology.nodes}
    context: dict[str, Any] = {
        "lab": lab,
        "nodes": views,
        "mobile_nodes": [views[name] for name in topology.mobile_nodes],
        "networks": topology.topology.networks,
        "options": topology.options,
        "secrets": secrets,
        "session_keys": session_keys,
        "topology": topology.topology,
    }
    nodes = {name: _render_node(topology, view, loader, context) for name, view in views.items()}
    return RenderedLab(lab, topology, nodes)


def _render_node(
    topology: LoadedTopology, node: NodeView, templates: Templates, shared: Mapping[str, Any]
) -> RenderedNode:
    context = {**shared, "node": node}
    roles = topology.node_roles(node.name)

    def render(spec: FileSpec) -> RenderedFile:
        return RenderedFile(templates.render(spec.template, context), spec.mode, spec.live)

    files = {
        spec.path: file for role in roles for spec in role.files if (file := render(spec)).content.strip()
    }
    ready = ["init"]
    sysctls = dict(BASE_SYSCTLS)
    for role in roles:
        sysctls |= {key: templates.evaluate(value, context) for key, value in role.sysctls.items()}
        for name, service in role.services.items():
            service_context = {**context, "name": name, "run": service.run, "ready": service.ready}
            for script in ("run", "finish"):
                content = templates.render(f"node/{script}.j2", service_context)
                files[f"/etc/testbed/services/{name}/{script}"] = RenderedFile(content, 0o755)
            if service.ready:
                ready.append(name)
    if topology.forwards(node.name):
        sysctls["net.ipv4.ip_forward"] = "1"
    files |= _node_files(topology, node)
    motd = templates.render("node/motd.j2", {**context, "manifests": roles})
    files["/etc/motd"] = RenderedFile(motd, live=True)  # it names neighbours, which come and go
    names = tuple(dict.fromkeys(ready))
    facts = {
        "node": node.name,
        "lab": shared["lab"],
        "roles": node.roles,
        "networks": list(node.interfaces),
        "ready": names,
    }
    files["/etc/testbed/node.json"] = RenderedFile(json.dumps(facts, indent=2) + "\n")
    return RenderedNode(
        node.name, tuple(node.roles), topology.functions(node.name), topology.routing(node.name),
        dict(sorted(files.items())), sysctls, names,
        topology.image(node.name), frozenset(one for role in roles for one in role.capabilities),
        node.interfaces,
    )  # fmt: skip


def _node_files(topology: LoadedTopology, node: NodeView) -> dict[str, RenderedFile]:
    """What init reads: addresses, routes and names."""
    links = "".join(f"{network} {address or '-'}\n" for network, address in node.interfaces.items())
    routes = "".join(f"route add {route}\n" for route in static_routes(topology, node.name))
    addresses = {"localhost": "127.0.0.1", **host_addresses(topology)}
    hosts = "".join(f"{address} {name}\n" for name, address in addresses.items())
    return {
        "/etc/testbed/links": RenderedFile(links),
        "/etc/testbed/routes": RenderedFile(routes),
        "/etc/testbed/hosts": RenderedFile(hosts, live=True),
    }
