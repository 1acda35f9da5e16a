"""The agents and mobile nodes of a solution, configured as in labs but with room for all mobile nodes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address
from typing import Final

from testbed.mobileip.core.foreign.config import ForeignAgentConfig
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.core.parameters import Advertising
from testbed.mobileip.core.security import SecurityAssociation
from testbed.simulate.counted import CountedDaemon, CountedNetwork, Tally
from testbed.simulate.gateway import Gateway
from testbed.simulate.host import DualHost, GatewayHost, Host
from testbed.simulate.model import Model
from testbed.simulate.solutions import HOME_AGENT, INNER, OUTER_HOME, Offer, Site, Solution

SPI: Final = 256
KEY: Final = bytes(range(16))
"""Of every security association: what it is does not matter to what is counted."""
PREFIX_LENGTH: Final = 8


class World:
    """Everybody of one simulation, at time 0: agents run, mobile nodes are nowhere."""

    def __init__(
        self,
        solution: Solution,
        model: Model,
        nodes: int,
        progress: Callable[[int], None] = lambda made: None,
    ) -> None:
        """`progress` is called with how many mobile nodes are made, for each thousand of them."""
        self.solution = solution
        self.model = model
        sites = {*solution.sites, solution.home, INNER, OUTER_HOME}
        self.network = CountedNetwork(model.seed, model.paths, sorted(sites, key=lambda site: site.prefix))
        self.mobile_nodes = Tally()
        """What all mobile nodes send and receive."""
        homes = [solution.home, OUTER_HOME] if solution.outer else [solution.home]
        self._security = {home: SecurityAssociation(home.prefix[HOME_AGENT], SPI, KEY) for home in homes}
        self.home_agents = [self._home_agent(home, nodes) for home in homes]
        """The one that knows the home addresses first."""
        self.foreign_agents = [
            self._foreign_agent(site, nodes) for site in solution.sites if site.offer is Offer.FOREIGN_AGENT
        ]
        self.gateway = Gateway(self.network, solution.outer) if solution.gateway else None
        self.hosts: list[Host] = []
        for number in range(nodes):
            self.hosts.append(self._host(number))
            if number % 1000 == 0:
                progress(number)

    @property
    def _advertising(self) -> Advertising:
        return Advertising(float(self.model.advertise), 3 * self.model.advertise)

    def _home_agent(self, home: Site, nodes: int) -> CountedDaemon:
        address = home.prefix[HOME_AGENT]
        config = HomeAgentConfig(
            address,
            home.prefix,
            home.name if home is not OUTER_HOME else None,
            self._advertising if home is not OUTER_HOME else None,
            lifetime=self.model.lifetime,
            bindings=nodes,
            mobile_nodes=tuple(
                SecurityAssociation(home.address(number), SPI, KEY) for number in range(nodes)
            ),
        )
        make = partial(HomeAgent, config, rng=self.network.rng)
        agent = CountedDaemon(f"ha {address}", b"ha" + address.packed, make, Tally())
        agent.remembers = ("ha" if home is self.solution.home else "x-ha") in self.model.restarts
        self.network.add_agent(agent, home.name, address)
        return agent

    def _foreign_agent(self, site: Site, nodes: int) -> CountedDaemon:
        address = site.prefix[HOME_AGENT]
        config = ForeignAgentConfig(
            site.name,
            address,
            address,
            prefix_length=PREFIX_LENGTH,
            advertising=self._advertising,
            registration_lifetime=self.model.lifetime,
            pending=nodes,
            visitors=nodes,
        )
        make = partial(ForeignAgent, config, rng=self.network.rng)
        agent = CountedDaemon(f"fa {address}", b"fa" + address.packed, make, Tally())
        agent.remembers = "fa" in self.model.restarts
        self.network.add_agent(agent, site.name, address)
        return agent

    def _host(self, number: int) -> Host:
        daemon = self._mobile_node(self.solution.home, number)
        if self.gateway is None:
            return Host(self.network, number, daemon)
        if not self.solution.outer:
            return GatewayHost(self.network, number, daemon, self.gateway)
        outer = self._mobile_node(OUTER_HOME, number)
        return DualHost(self.network, number, daemon, self.gateway, outer)

    def _mobile_node(self, home: Site, number: int) -> CountedDaemon:
        address, security = home.address(number), self._security[home]
        assert isinstance(security.peer, IPv4Address)
        config = MobileNodeConfig(address, home.prefix, security.peer, security, lifetime=self.model.lifetime)
        make = partial(MobileNode, config, rng=self.network.rng)
        return CountedDaemon(f"mn {address}", b"mn" + address.packed, make, self.mobile_nodes)
