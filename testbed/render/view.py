"""What templates see of a node: the topology's facts about it, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from testbed.agreed import DUAL, MIP_IN_IPSEC
from testbed.document.functions import Function, Meaning
from testbed.document.values import AddressRange
from testbed.topology.loaded import LoadedTopology


@dataclass(frozen=True)
class LinkView:
    """A link of a node: the network, the node's address there, and the prefix."""

    network: str
    address: IPv4Address
    subnet: IPv4Network
    neighbours: tuple[str, ...]
    """Other routers on the network that learn their routes by the same protocol as the node."""


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

    @cached_property  # the words that greet at each node look at those of all
    def interfaces(self) -> Mapping[str, IPv4Interface | None]:
        """Network → address and prefix length; None for a link that stays down until the node attaches."""
        return {network: self._loaded.interface(self.name, network) for network in self._node.networks}

    @cached_property
    def intranet_links(self) -> list[LinkView]:
        """The links inside the Intranet, where routers learn routes from each other."""
        return [
            LinkView(
                name, address, network.subnet,
                tuple(
                    other for other in self._speakers
                    if other != self.name and name in self._loaded.node(other).links
                ),
            )
            for name, address in self.links.items()
            if (network := self._loaded.topology.networks[name]).domain == "intranet"
        ]  # fmt: skip

    @property
    def _speakers(self) -> list[str]:
        """The routers that learn their routes by the same protocol, itself among them."""
        if not self._loaded.learns_routes(self.name):
            return []
        protocol = self._loaded.routing(self.name)
        return [other for other in self._loaded.topology.nodes if self._loaded.routing(other) == protocol]

    @property
    def owned_prefixes(self) -> list[IPv4Network]:
        """Prefixes on no link that are reached through this node: inner and virtual home addresses."""
        return [*self._loaded.owned_prefixes(self.name).values()]

    @property
    def remote_prefixes(self) -> list[IPv4Network]:
        """What this router learns from the others: the Intranet's prefixes that are not its own."""
        prefixes: list[IPv4Network] = []
        for name in self._speakers:
            other = NodeView(self._loaded, name)
            prefixes += [link.subnet for link in other.intranet_links] + other.owned_prefixes
        own = {*(link.subnet for link in self.intranet_links), *self.owned_prefixes}
        return sorted(set(prefixes) - own)

    @property
    def dhcp_pool(self) -> PoolView:
        """The pool handed out, with the link it lies in."""
        pool: AddressRange = self._loaded.meant(self.name, Meaning.DHCP_POOL)
        network, subnet = next(
            (name, subnet)
            for name in self.links
            if pool.first in (subnet := self._loaded.topology.networks[name].subnet)
        )
        return PoolView(network, pool.first, pool.last, subnet.netmask)

    @property
    def agent_address(self) -> IPv4Address:
        """Where mobile nodes register, for a home agent: with MIPv4 inside IPsec on the Intranet side."""
        link = self._loaded.agent_link(self.name)
        inside = {one.network: one.address for one in self.intranet_links}
        if inside and link not in inside and self._loaded.options.get("stack") in MIP_IN_IPSEC:
            return next(iter(inside.values()))
        return self.links[link]

    @property
    def routing_adapted(self) -> bool:
        """Whether a home agent beside the gateway has its routing logic modified (RFC 4093 §2.2)."""
        return self._loaded.options.get("routing") != "unmodified"

    @property
    def hub_network(self) -> str:
        """The network whose hub this node is."""
        return next(name for name, hub in self._loaded.topology.hubs.items() if hub == self.name)

    def acts_as(self, role: str) -> bool:
        """Whether the node has a role, or one that acts as it."""
        return self._loaded.acts_as(self.name, role)

    # What the node works with, however its roles call the setting that says so.

    @property
    def outside_address(self) -> IPv4Address:
        """The address of a VPN gateway on its untrusted link, where clients arrive."""
        return self._loaded.outside_address(self.name)

    @property
    def protects(self) -> IPv4Network:
        """What is reached through a VPN gateway."""
        prefix: IPv4Network = self._loaded.meant(self.name, Meaning.PROTECTS)
        return prefix

    @property
    def gateway(self) -> NodeView | None:
        """The VPN gateway of a client, or beside a home agent."""
        name = self._loaded.meant(self.name, Meaning.VPN_GATEWAY)
        return NodeView(self._loaded, name) if name is not None else None

    @property
    def mobike(self) -> bool:
        """Whether a VPN client keeps its IKE SA on a move (RFC 4555), for a gateway: any of its clients."""
        if self.acts_as(Function.VPN_GATEWAY):
            views = [NodeView(self._loaded, name) for name in self._loaded.mobile_nodes]
            return any(one.mobike for one in views if one.gateway and one.gateway.name == self.name)
        inside_ipsec = self._loaded.options.get("stack") == "mip-in-ipsec"
        return inside_ipsec and bool(self._loaded.meant(self.name, Meaning.MOBIKE))

    @property
    def detects(self) -> bool:
        """Whether a mobile node finds out by itself which networks are inside (RFC 5265 §3)."""
        stack, asked = self._loaded.options.get("stack"), self._loaded.meant(self.name, Meaning.WHEREABOUTS)
        return stack == DUAL or (stack in MIP_IN_IPSEC and asked == "detected")

    @property
    def outer_home_agent(self) -> NodeView | None:
        """The home agent of a mobile node outside, where it has two (x-HA of RFC 5265)."""
        name = self._loaded.meant(self.name, Meaning.OUTER_HOME_AGENT)
        return NodeView(self._loaded, name) if name is not None else None

    @property
    def outer_home_address(self) -> IPv4Address | None:
        """Its home address there (x-HoA)."""
        address: IPv4Address | None = self._loaded.meant(self.name, Meaning.OUTER_HOME_ADDRESS)
        return address

    @property
    def home_network_prefix(self) -> IPv4Network | None:
        """The prefix of the home network that a home agent serves, real or virtual."""
        return self._loaded.home_prefix(self.name)

    @property
    def virtual_home(self) -> IPv4Network | None:
        """The prefix of a home agent's virtual home network."""
        prefix: IPv4Network | None = self._loaded.meant(self.name, Meaning.VIRTUAL_HOME)
        return prefix

    # A mobile node's home, which is what its home agent says it is.

    @property
    def home_address(self) -> IPv4Address | None:
        """The home address of a mobile node."""
        return self._loaded.home_address(self.name)

    @property
    def nai(self) -> str | None:
        """What a mobile node is known by to its home agent, which assigns the home address (RFC 2794)."""
        nai: str | None = self._loaded.meant(self.name, Meaning.NAI)
        return nai

    @property
    def home_agent(self) -> NodeView:
        """The home agent of a mobile node."""
        return NodeView(self._loaded, self._loaded.meant(self.name, Meaning.HOME_AGENT))

    @property
    def home_agents(self) -> list[NodeView]:
        """The home agents of a mobile node: its own, and the others that it asks in turn."""
        return [NodeView(self._loaded, name) for name in self._loaded.home_agents(self.name)]

    def registers_with(self, agent: NodeView) -> bool:
        """Whether a home agent is one of the mobile node's."""
        return agent.name in self._loaded.home_agents(self.name)

    @property
    def home_link(self) -> str | None:
        """The home network of a mobile node; None where it is virtual."""
        return self._loaded.home_link(self.name)

    @property
    def home_prefix(self) -> IPv4Network | None:
        """The prefix of a mobile node's home network, real or virtual."""
        return self._loaded.home_prefix(self.home_agent.name)

    @property
    def udp_tunnel(self) -> str:
        """When a mobile node asks for a tunnel in UDP (RFC 3519): `off`, `nat` or `forced`."""
        return self._loaded.meant(self.name, Meaning.UDP_TUNNEL) or "off"

    @property
    def correspondent(self) -> NodeView | None:
        """The node that a mobile node speaks to, to see that a hand-off has ended."""
        name = self._loaded.correspondent(self.name)
        return NodeView(self._loaded, name) if name is not None else None

    @property
    def is_crowd(self) -> bool:
        """Whether it is many mobile nodes in one."""
        return self.acts_as(Function.BULK_NODES)

    def router_on(self, network: str) -> IPv4Address:
        """The router of a link that the node is on, or the link's own hub. Raises `LookupError` without."""
        others = [name for name in self._loaded.topology.linked(network) if name != self.name]
        hub = self._loaded.topology.networks[network].hub
        routers = [name for name in others if name == hub or self._loaded.routing(name)]
        if not routers:
            raise LookupError(f"{network} has no router for {self.name}")
        return self._loaded.node(hub if hub in routers else routers[0]).links[network]

    @property
    def home_router(self) -> IPv4Address | None:
        """The default router of a mobile node at home; None where its home network is virtual."""
        network = self.home_link
        if network is None:
            return None
        routers = [name for name in self._loaded.topology.linked(network) if self._loaded.routing(name)]
        return self._loaded.node(routers[0]).links[network] if routers else self.home_agent.links[network]
