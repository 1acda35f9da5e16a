"""The mobile node's home address, its routes and its tunnel (RFC 5944 §4.2.1)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from testbed.mobileip.core.api import Datagram, Effect, FormerTunnel, TunnelEnd
from testbed.mobileip.core.links import broadcast_addresses
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.mobile.effects import (
    UseCoLocated,
    UseForeignAgent,
    UseHome,
    UseHomeAddress,
    UseNothing,
)
from testbed.mobileip.io.changes import DEFAULT, Rule
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.io.role import Role, tunnel_mtu
from testbed.mobileip.tunnel.api import MTU, DataPlane, Tunnel

_NONE = IPv4Interface("0.0.0.0/32")
MULTICAST = IPv4Address("224.0.0.0")
"""Every group, in a list of destinations."""


class MobileNodeRole(Role):
    """Keeps the home address on the tunnel device while away and on the home link at home.

    It never ceases to be an address of this node, and so connections outlive every change: on a change the
    new place is made before the old one is given up.
    """

    def __init__(self, config: MobileNodeConfig, rule: Rule, netlink: Netlink, plane: DataPlane) -> None:
        """While away the mobile node sends by the table that `rule` names."""
        super().__init__(netlink, plane)
        self._config = config
        assert rule.table is not None
        self._rule, self._table = rule, rule.table
        self._away = self._at_home = _NONE
        if config.home_address is not None:
            self._use_address(config.home_address)
        prefix = config.home_prefix
        self._broadcast = prefix.broadcast_address if config.broadcasts and prefix.prefixlen < 31 else None
        self._broadcasts = broadcast_addresses(prefix) if config.broadcasts else ()
        self._routed = False
        self._around: list[IPv4Network] = []  # destinations that do not go where all others go
        self._home: UseHome | None = None
        self._neighbour: tuple[str, IPv4Address] | None = None
        self._mtu = MTU

    @property
    def homeless(self) -> bool:
        """Whether the home address is not known yet."""
        return self._away == _NONE

    def _use_address(self, home_address: IPv4Address) -> None:
        self._away = IPv4Interface((home_address, 32))
        self._at_home = IPv4Interface((home_address, self._config.home_prefix.prefixlen))

    def start(self) -> None:
        """The home address, where it is known, is there from now on."""
        for interface, agent in self._netlink.gateways(self._table):
            self._netlink.delete_neighbour(interface, agent)
        super().start()
        if not self.homeless:
            self._netlink.add_address(self.plane.anchor, self._away, self._broadcast)
        for interface, address in self._netlink.addresses():
            ours = address.ip in self._config.home_prefix if self.homeless else address.ip == self._away.ip
            if ours and (self.homeless or interface != self.plane.anchor):
                self._netlink.delete_address(interface, address)

    def apply(self, effect: Effect) -> None:
        """Carry out what is to be used from now on."""
        if isinstance(effect, UseHomeAddress):
            self._use_home_address(effect.home_address)
        elif isinstance(effect, UseCoLocated):
            self._use_co_located(effect)
        elif isinstance(effect, UseForeignAgent):
            self._use_foreign_agent(effect)
        elif isinstance(effect, UseHome):
            self._use_home(effect)
        elif isinstance(effect, UseNothing):
            self._use_nothing()

    def _use_home_address(self, home_address: IPv4Address) -> None:
        before = self._away
        if not self.homeless:
            self._use_nothing()
        self._use_address(home_address)
        self._netlink.add_address(self.plane.anchor, self._away, self._broadcast)
        if before not in (_NONE, self._away):
            self._netlink.delete_address(self.plane.anchor, before)

    def _use_co_located(self, use: UseCoLocated) -> None:
        broadcasts = (*self._broadcasts, MULTICAST) if use.reverse_tunnel else self._broadcasts  # §4.4
        tunnel = Tunnel(self._away.ip, use.care_of_address, (use.home_agent,), broadcasts, use.former)
        device = self.plane.set(tunnel)
        hop = self._netlink.hop(use.home_agent.address, use.care_of_address)
        mtu = self._mtu if hop is None else tunnel_mtu(hop.mtu, use.home_agent.encapsulations[0])
        if hop is not None and (mtu != self._mtu or device != self.plane.anchor):
            self._mtu = mtu  # a device that is no anchor may be a new one
            self._netlink.set_link(device, mtu=self._mtu)
        self._leave_home()
        if use.reverse_tunnel:
            self._route(device)
        elif hop is not None:
            # Without reverse tunnel packets take the way that registrations take, only not encapsulated.
            self._route(hop.interface, hop.gateway)
        else:
            raise NodeError(f"no route from {use.care_of_address} to the home agent {use.home_agent.address}")
        self.plane.settled(self._away.ip)
        self._forget_neighbour()

    def _use_foreign_agent(self, use: UseForeignAgent) -> None:
        previous, self._neighbour = self._neighbour, (use.interface, use.agent)
        self._netlink.set_neighbour(use.interface, use.agent, use.agent_link_address)
        if self.homeless:
            return  # there is nothing to be sent from
        self._leave_home()
        if use.tunnel is None:
            self._route(use.interface, use.agent)
        else:
            self._deliver(use, use.tunnel)
        if previous is not None and previous != self._neighbour:
            self._netlink.delete_neighbour(*previous)
        if use.tunnel is not None:
            return
        home, former = self._away.ip, use.former
        if use.broadcasts_from is not None:  # nested in datagrams to the home address (§4.3)
            end = TunnelEnd(use.broadcasts_from)
            self.plane.set(Tunnel(home, home, (end,), self._broadcasts, former))
        elif former:
            local, end = former[0].care_of_address, former[0].home_agent
            self.plane.set(Tunnel(home, local, (end,), self._broadcasts, former[1:]))
        else:
            self.plane.remove(home)
            return
        self.plane.settled(home)

    def _deliver(self, use: UseForeignAgent, agent: TunnelEnd) -> None:
        """Tunnel to the agent what is to be reverse-tunnelled, broadcasts and multicast too (RFC 3024 §5.2).

        What is for the visited link goes directly (§5.4), but for a link that has the addresses of home.
        """
        home, further = self._away.ip, use.former
        if use.broadcasts_from is not None:  # nested in datagrams to the home address (RFC 5944 §4.3, §4.4)
            further = (FormerTunnel(home, TunnelEnd(use.broadcasts_from)), *further)
        device = self.plane.set(Tunnel(home, home, (agent,), (*self._broadcasts, MULTICAST), further))
        self._mtu = tunnel_mtu(self._netlink.mtu(use.interface), agent.encapsulations[0])
        self._netlink.set_link(device, mtu=self._mtu)
        local = (each for each in use.local if not each.overlaps(self._config.home_prefix))
        self._route(device, around=(use.interface, use.agent, [IPv4Network(agent.address), *local]))
        self.plane.settled(self._away.ip)

    def _use_home(self, use: UseHome) -> None:
        self._netlink.add_address(use.interface, self._at_home)
        self._netlink.delete_address(self.plane.anchor, self._away)
        if use.router is not None:
            self._netlink.set_route(DEFAULT, use.interface, gateway=use.router)
        if self._home is not None and self._home.interface != use.interface:
            self._netlink.delete_address(self._home.interface, self._at_home)
        self._home = use
        self._unroute()
        self._forget_neighbour()
        self.plane.remove(self._away.ip)

    def _use_nothing(self) -> None:
        self._leave_home()
        self._unroute()
        self._forget_neighbour()
        if not self.homeless:
            self.plane.remove(self._away.ip)

    def _route(
        self,
        interface: str,
        gateway: IPv4Address | None = None,
        around: tuple[str, IPv4Address, list[IPv4Network]] | None = None,
    ) -> None:
        """Send all that way; `around` says where destinations go instead, and by which router."""
        before, self._around = self._around, around[2] if around else []
        if around is not None:
            other, router, _ = around
            for destination in self._around:
                self._set_route(destination, other, router)
        self._set_route(DEFAULT, interface, gateway)
        for destination in before:
            if destination not in self._around:
                self._netlink.delete_route(destination, table=self._table)
        if not self._routed:
            self._netlink.add_rule(self._rule)
            self._routed = True

    def _set_route(self, destination: IPv4Network, interface: str, gateway: IPv4Address | None) -> None:
        source = self._away.ip
        self._netlink.set_route(destination, interface, table=self._table, gateway=gateway, source=source)

    def _unroute(self) -> None:
        if self._routed:
            self._netlink.delete_rule(self._rule)
            for destination in (DEFAULT, *self._around):
                self._netlink.delete_route(destination, table=self._table)
            self._routed, self._around = False, []

    def _leave_home(self) -> None:
        if self._home is not None:
            self._netlink.add_address(self.plane.anchor, self._away, self._broadcast)
            if self._home.router is not None:
                self._netlink.delete_route(DEFAULT)
            self._netlink.delete_address(self._home.interface, self._at_home)
            self._home = None

    def _forget_neighbour(self) -> None:
        if self._neighbour is not None:
            self._netlink.delete_neighbour(*self._neighbour)
            self._neighbour = None

    def outgoing(self, datagram: Datagram) -> Datagram:
        """A request from a care-of address takes the route of that address: into IPsec, maybe."""
        if datagram.source != self._away.ip and datagram.link_address is None:
            return replace(datagram, interface=None)
        return datagram

    def stop(self) -> None:
        """Give up the home address and all routes."""
        self._use_nothing()
        if not self.homeless:
            self._netlink.delete_address(self.plane.anchor, self._away)
