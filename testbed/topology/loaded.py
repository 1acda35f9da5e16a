"""A topology that passed every check, with its roles, the values chosen, and where each was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

import yaml

from testbed.document.marks import Marks
from testbed.errors import Source
from testbed.topology.cast import Cast
from testbed.topology.images import role_images
from testbed.topology.model import Node, OptionScalar, Topology


@dataclass(frozen=True)
class LoadedTopology(Cast):
    """What `load_topology` returns and everything after it works on."""

    file: str
    """The file it was read from, as the user named it (a built-in one: its whole path)."""
    sets: tuple[str, ...]
    """The `--set` texts that were applied."""
    templates: Path | None
    """The user's own template folder."""
    options: Mapping[str, OptionScalar]
    """Every option with the value chosen, else its default."""
    marks: Marks
    document: Mapping[str, Any]
    """The file as plain data, with everything included and written out and every `--set` applied."""

    @property
    def name(self) -> str:
        """The topology's name."""
        return self.topology.name

    @property
    def mobile_nodes(self) -> tuple[str, ...]:
        """The nodes that attach to networks instead of being linked to them."""
        return tuple(name for name, node in self.topology.nodes.items() if node.attaches)

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Every node by name."""
        return self.topology.nodes

    def node(self, name: str) -> Node:
        """One node of the topology."""
        return self.topology.nodes[name]

    def image(self, name: str) -> str | None:
        """The image a node runs where it is not the testbed's: the node's own, else that of its roles."""
        images = role_images(self.node_roles(name), self.topology.images)
        return self.topology.nodes[name].image or next(iter(images.values()), None)

    def interface(self, node: str, network: str) -> IPv4Interface | None:
        """Address and prefix length of a node on a network; None where a mobile node attaches.

        On a hub-and-spoke network only the hub holds the prefix; the others get /32, so that they reach
        their neighbours through the hub and nowhere else.
        """
        address = self.topology.nodes[node].links.get(network)
        if address is None:
            return None
        net = self.topology.networks[network]
        length = net.subnet.prefixlen if net.hub in (None, node) else 32
        return IPv4Interface(f"{address}/{length}")

    def primary_address(self, node: str) -> IPv4Address | None:
        """The address a node is known by: a mobile node's home address, else that of its first link.

        Links inside the Intranet come first: nobody reaches the gateway's outside through its own tunnel.
        """
        links = self.topology.nodes[node].links
        inside = [a for n, a in links.items() if self.topology.networks[n].domain == "intranet"]
        return self.home_address(node) or next(iter([*inside, *links.values()]), None)

    def source(self, *path: str | int) -> Source:
        """Where a part of the topology was written, for errors found later; the nearest enclosing place."""
        return self.marks.value(path)

    def text(self) -> str:
        """The topology as one YAML file that loads by itself and does what was chosen by default."""
        document = {key: self.document[key] for key in Topology.model_fields if key in self.document}
        chosen = {
            name: {**option, "default": self.options[name]}
            for name, option in document.get("options", {}).items()
        }
        return yaml.safe_dump(
            document | ({"options": chosen} if chosen else {}),
            sort_keys=False, allow_unicode=True, width=110, default_flow_style=None,
        )  # fmt: skip
