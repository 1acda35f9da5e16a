"""What templates see of a node: the topology's facts about it, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from testbed.document.values import AddressRange
from testbed.topology.loaded import LoadedTopology


@dataclass(frozen=True)
class LinkView:
    """A link of a node: the network, the node's address there, and the prefix."""

    network: str
    address: IPv4Address
    subnet: IPv4Network
    ospf_neighbours: tuple[str, ...]
    """Other nodes on the network that speak OSPF."""


@dataclass(frozen=True)
class PoolView:
    """The DHCP pool of a node and the link it lies in."""

    network: str
    first: IPv4Address
    last: IPv4Address
    netmask: IPv4Address


class NodeView:
    """One node, as templates see it (`node`)."""

    def __init__(self, loaded: LoadedTopology, name: str) -> None:
        self._loaded = loaded
        self._node = loaded.node(name)
        self.name = name

    @property
    def roles(self) -> list[str]:
        """The roles, in the order they are written."""
        return self._node.roles

    @property
    def settings(self) -> Mapping[str, Any]:
        """Every setting that the roles declare; None where it is absent."""
        return self._loaded.settings[self.name]

    @property
    def links(self) -> Mapping[str, IPv4Address]:
        """Network → the node's address on it."""
        return self._node.links

    @property
    def attaches(self) -> list[str]:
        """The networks a mobile node can attach to."""
        return self._node.attaches

    @property
    def inside(self) -> list[str]:
        """Of these, the networks of the Intranet."""
        return [name for name in self.attaches if self._loaded.topology.networks[name].domain == "intranet"]

    @property
    def interfaces(self) -> dict[str, IPv4Interface | None]:
        """Network → address and prefix length; None for a link that stays down until the node attaches."""
        return {network: self._loaded.interface(self.name, network) for network in self._node.networks}

    @cached_property
    def intranet_links(self) -> list[LinkView]:
        """The links inside the Intranet, where OSPF is spoken."""
        speakers = [other for other in self._loaded.with_role("ospf") if other != self.name]
        return [
            LinkView(
                name, address, network.subnet,
                tuple(other for other in speakers if name in self._loaded.node(other).links),
            )
            for name, address in self.links.items()
            if (network := self._loaded.topology.networks[name]).domain == "intranet"
        ]  # fmt: skip

    @property
    def owned_prefixes(self) -> list[IPv4Network]:
        """Prefixes on no link that are reached through this node: inner and virtual home addresses."""
        return [p for key in ("inner-pool", "virtual-home") if (p := self.settings.get(key)) is not None]

    @property
    def remote_prefixes(self) -> list[IPv4Network]:
        """What OSPF has to tell this node: the Intranet's prefixes that are not its own."""
        prefixes: list[IPv4Network] = []
        for name in self._loaded.with_role("ospf"):
            other = NodeView(self._loaded, name)
            prefixes += [link.subnet for link in other.intranet_links] + other.owned_prefixes
        own = {*(link.subnet for link in self.intranet_links), *self.owned_prefixes}
        return sorted(set(prefixes) - own)

    @property
    def dhcp_pool(self) -> PoolView:
        """The pool handed out, with the link it lies in."""
        pool: AddressRange = self.settings["dhcp-pool"]
        network, subnet = next(
            (name, subnet)
            for name in self.links
            if pool.first in (subnet := self._loaded.topology.networks[name].subnet)
        )
        return PoolView(network, pool.first, pool.last, subnet.netmask)

    @property
    def agent_address(self) -> IPv4Address:
        """Where mobile nodes register, for a home agent: with MIPv4 inside IPsec on the Intranet side."""
        link = self.settings["agent"] or self.settings["home-network"] or next(iter(self.links))
        inside = {one.network: one.address for one in self.intranet_links}
        if inside and link not in inside and self._loaded.options.get("stack") == "mip-in-ipsec":
            return next(iter(inside.values()))
        return self.links[link]

    @property
    def routing_adapted(self) -> bool:
        """Whether a home agent beside the gateway has its routing logic modified (RFC 4093 §2.2)."""
        return self._loaded.options.get("routing") != "unmodified"

    @property
    def hub_network(self) -> str:
        """The network whose hub this node is."""
        return next(
            name for name, network in self._loaded.topology.networks.items() if network.hub == self.name
        )

    # A mobile node's home, which is what its home agent says it is.

    @property
    def home_agent(self) -> NodeView:
        """The home agent of a mobile node."""
        return NodeView(self._loaded, self.settings["home-agent"])

    @property
    def home_prefix(self) -> IPv4Network:
        """The prefix of a mobile node's home network, real or virtual."""
        network = self.home_agent.settings["home-network"]
        if network is not None:
            return self._loaded.topology.networks[network].subnet
        prefix: IPv4Network = self.home_agent.settings["virtual-home"]
        return prefix

    @property
    def home_router(self) -> IPv4Address | None:
        """The default router of a mobile node at home; None where its home network is virtual."""
        network = self.home_agent.settings["home-network"]
        if network is None:
            return None
        routers = [
            name for name in self._loaded.topology.linked(network)
            if "router" in self._loaded.node(name).roles
        ]  # fmt: skip
        return self._loaded.node(routers[0]).links[network] if routers else self.home_agent.links[network]
