"""Mobile nodes with what moves them: the steps of a move, as the connection manager takes them in a lab."""

from __future__ import annotations

from functools import partial

from testbed.mobileip.core.api import Effect, ReportEvent
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.simulate.counted import CountedDaemon, CountedNetwork
from testbed.simulate.gateway import Gateway
from testbed.simulate.network import NOWHERE
from testbed.simulate.solutions import INNER, Offer, Site, Zone


class Host:
    """A mobile node of plain Mobile IPv4: a move is a registration and nothing else."""

    __slots__ = ("daemon", "network", "number", "site")

    def __init__(self, network: CountedNetwork, number: int, daemon: CountedDaemon) -> None:
        self.network = network
        self.number = number
        self.daemon = daemon
        """Of the home agent that knows its home address."""
        self.site: Site | None = None
        """Where it is."""
        network.add_node(daemon)

    def move(self, site: Site) -> None:
        """Leave where it is for `site`, and register there."""
        self.site = site
        self._use(site)

    def lost_ipsec(self) -> None:
        """The gateway has been found dead."""

    def _use(self, site: Site) -> None:
        address = site.address(self.number) if site.offer is Offer.ADDRESS else None
        self.network.move(self.daemon, site.name, address)


class GatewayHost(Host):
    """One that negotiates IPsec wherever it is outside, and registers the address that the gateway lends."""

    __slots__ = ("gateway",)

    def __init__(self, network: CountedNetwork, number: int, daemon: CountedDaemon, gateway: Gateway) -> None:
        super().__init__(network, number, daemon)
        self.gateway = gateway

    def move(self, site: Site) -> None:
        """IPsec is bound to the address that is left, and negotiated anew."""
        self.site = site
        self.gateway.abandon(self.number)
        if site.zone is not Zone.OUTSIDE:
            self._use(site)
            return
        self.network.join(self.daemon, NOWHERE)
        assert isinstance(self.daemon.core, MobileNode)
        self.daemon.core.detach(self.network.now)
        self.network.after(self.daemon)
        self._negotiate()

    def lost_ipsec(self) -> None:
        """Negotiate and register anew, where it is outside."""
        if self.site is not None and self.site.zone is Zone.OUTSIDE:
            self._negotiate()

    def _negotiate(self) -> None:
        self.gateway.negotiate(self.number, partial(self._use, INNER))


class DualHost(GatewayHost):
    """One with a home agent outside: IPsec runs from its home address there and outlives moves (RFC 5265)."""

    __slots__ = ("outer",)

    def __init__(
        self,
        network: CountedNetwork,
        number: int,
        daemon: CountedDaemon,
        gateway: Gateway,
        outer: CountedDaemon,
    ) -> None:
        super().__init__(network, number, daemon, gateway)
        self.outer = outer
        """Of the home agent outside."""
        outer.heard = self._heard
        network.add_node(outer)

    def move(self, site: Site) -> None:
        """Ask both home agents at once: the one inside does not hear what comes from outside (§3.3)."""
        self.site = site
        address = site.address(self.number)
        self.network.move(self.outer, site.name, address)
        assert isinstance(self.daemon.core, MobileNode)
        self.daemon.core.detect(site.name, self.network.now, address)
        self.network.after(self.daemon)

    def lost_ipsec(self) -> None:
        """Ask both home agents again, and negotiate anew."""
        assert self.site is not None
        self.gateway.associations.discard(self.number)
        assert isinstance(self.outer.core, MobileNode)
        self.outer.core.detach(self.network.now)  # also where it still counted on being registered
        self.move(self.site)

    def _heard(self, effect: Effect) -> None:
        """The home agent outside has answered."""
        if isinstance(effect, ReportEvent) and effect.name == "registered":
            assert isinstance(self.daemon.core, MobileNode)
            self.daemon.core.rest()
            if not effect.fields["renewal"] and self.number not in self.gateway.associations:
                self._negotiate()
