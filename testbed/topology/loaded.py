"""A topology that passed every check, with its roles, the values chosen, and where each was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path as FilePath
from typing import Any

from testbed.document.marks import Marks, Path
from testbed.document.write import document_text
from testbed.errors import Source
from testbed.topology.cast import Cast
from testbed.topology.images import role_images
from testbed.topology.model import Network, Node, OptionScalar, Topology
from testbed.topology.origins import Origins
from testbed.topology.overrides import target


@dataclass(frozen=True)
class LoadedTopology(Cast):
    """What `load_topology` returns and everything after it works on."""

    file: str
    """The file it was read from, as the user named it (a built-in one: its whole path)."""
    sets: tuple[str, ...]
    """The `--set` texts that were applied."""
    templates: FilePath | None
    """The user's own template folder."""
    options: Mapping[str, OptionScalar]
    """Every option with the value chosen, else its default."""
    marks: Marks
    document: Mapping[str, Any]
    """The file as plain data, with everything included and written out and every `--set` applied."""
    filters: Mapping[str, str]
    """The pcap filters that the file names, written out as its claims have them."""

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

    @property
    def networks(self) -> Mapping[str, Network]:
        """Every network by name."""
        return self.topology.networks

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

    def text(self, *, origins: bool = False) -> str:
        """The topology as one YAML file that loads by itself and does what was chosen by default.

        With `origins` comments say where each part was written, and repeat what its author remarks there.
        """
        document = {key: self.document[key] for key in Topology.model_fields if key in self.document}
        if options := document.get("options"):
            document["options"] = {
                name: {**option, "default": self.options[name]} for name, option in options.items()
            }
        if not origins:
            return document_text(document)
        sections = [key for key, value in document.items() if isinstance(value, dict)]
        return document_text(document, Origins(self.marks, sections, self._chosen()).remark)

    def _chosen(self) -> dict[Path, Source]:
        """The options whose value is the user's, and what says so."""
        return {
            ("options", name, "default"): Source(f"--set {text}")
            for text in self.sets
            for section, name in [target(text)[:2]]
            if section == "options"
        }
