"""A network that knows which side of the gateway its links are on, and counts messages as captures would."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from testbed.mobileip.core.api import AgentMessage, Clock, Core, Datagram, Effect, Remember
from testbed.simulate.network import Daemon, VirtualNetwork, Weather
from testbed.simulate.solutions import Site, Zone

IP = 20
UDP = 8


class Tally:
    """Messages and their bytes, from the IP header on, that passed one place in either direction."""

    __slots__ = ("messages", "octets")

    def __init__(self) -> None:
        self.messages = 0
        self.octets = 0

    def add(self, octets: int, messages: int = 1) -> None:
        """Messages that have so many bytes together."""
        self.messages += messages
        self.octets += octets


class CountedDaemon(Daemon):
    """A daemon whose messages are counted together with those of others of its kind."""

    __slots__ = ("heard", "remembers", "tally")

    def __init__(self, name: str, link_address: bytes, make: Callable[[Clock], Core], tally: Tally) -> None:
        self.tally = tally
        self.remembers = False
        """Whether what it is to remember is kept: a restart will ask for it."""
        self.heard: Callable[[Effect], None] | None = None
        """Called with all that its core asks for, but messages."""
        super().__init__(name, link_address, make)

    def keep(self, effect: Remember) -> None:
        """Keep it, where that is asked for."""
        if self.remembers:
            super().keep(effect)

    def apply(self, effect: Effect) -> None:
        """Pass it on to whoever has asked for it."""
        if self.heard is not None:
            self.heard(effect)


class CountedNetwork(VirtualNetwork):
    """Counts what daemons send and receive, and what crosses the Internet outside IPsec.

    Between outside and inside is the gateway: only what is in IPsec passes.
    """

    def __init__(self, seed: int, weather: Weather, sites: Iterable[Site]) -> None:
        super().__init__(seed, weather)
        self.internet = Tally()
        """IKE, and Mobile IP in clear, as it crosses the Internet."""
        self.discovery = Tally()
        """Advertisements and solicitations, each once however many hear it."""
        self._by_name = {site.name: site for site in sites}
        self._by_octet = {int(site.prefix.network_address) >> 24: site for site in self._by_name.values()}

    def send(self, sender: Daemon, datagram: Datagram) -> None:
        """Count it, and drop what the gateway drops."""
        assert isinstance(sender, CountedDaemon)
        link = datagram.interface or sender.link
        here = self._by_name.get(link)
        if here is None:
            return  # there is no link
        octets = len(datagram.payload) + UDP + IP
        sender.tally.add(octets)
        if datagram.link_address is not None and datagram.interface is not None:
            super().send(sender, datagram)
            return
        there = self._by_octet[int(datagram.destination) >> 24]
        far = there is not here and not (here.zone is there.zone is Zone.INSIDE)
        if far and Zone.TUNNEL not in (here.zone, there.zone):
            self.internet.add(octets)
            if here.zone is not there.zone:
                return
        self.post(partial(self.routed, sender.link_address, link, datagram), far)

    def deliver(self, receiver: Daemon, datagram: Datagram) -> None:
        """Count it when it arrives."""
        assert isinstance(receiver, CountedDaemon)
        if not receiver.down:
            receiver.tally.add(len(datagram.payload) + UDP + IP)
            super().deliver(receiver, datagram)

    def send_agent_message(self, sender: Daemon, message: AgentMessage) -> None:
        """Count it once, however many hear it."""
        self.discovery.add(len(message.payload) + IP)
        super().send_agent_message(sender, message)
