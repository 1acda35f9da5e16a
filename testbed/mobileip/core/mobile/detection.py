"""Whether another link is inside, asked of the home agent beside the registration that holds.

RFC 5265 §3.3 and RFC 5266 §3.4: a mobile node sends the home agent a request over the link itself, past any
VPN. A reply over that link that has the Trusted Networks Configured extension shows that the link is inside.
Nothing else does, a reply through the VPN least of all: it answers another request.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Literal

from testbed.mobileip.core.api import AgentMessage, Datagram, SendAgentMessage, SendDatagram
from testbed.mobileip.core.links import is_unicast
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.mobile.discovery import Discovery
from testbed.mobileip.core.mobile.home_address import HomeAddress
from testbed.mobileip.core.mobile.path import Path, Sent
from testbed.mobileip.core.mobile.requests import Requester
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.timers import Timers
from testbed.mobileip.wire.code import Code, accepted, describe
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.trusted import is_trusted

Due = Literal["request", "solicit"]


class Detection:
    """Asks on one link at a time: from an address there, or through an agent that is heard there."""

    def __init__(
        self,
        config: MobileNodeConfig,
        home: HomeAddress,
        requester: Requester,
        discovery: Discovery,
        out: Outbox,
    ) -> None:
        """`requester` and `discovery` are its own; the former shares identifications with the other."""
        self.interface: str | None = None
        """The link in question; None while there is none."""
        self._config = config
        self._home = home
        self._requester = requester
        self._discovery = discovery
        self._out = out
        self._path: Path | None = None
        self._timers: Timers[Due] = Timers()

    def begin(self, interface: str, care_of: IPv4Address | None, now: float) -> None:
        """Ask from `care_of`, or without it through an agent; at home directly.

        Raises ValueError for an address that cannot be a care-of address.
        """
        if care_of is not None and (not is_unicast(care_of) or care_of == self._home.address):
            raise ValueError(f"{care_of} cannot be a care-of address")
        self._forget()
        self.interface = interface
        self._requester.repetition.moved()
        self._requester.begin()
        if care_of is not None:
            self._ask(Path("co-located", interface, care_of, care_of), now)
        else:
            self._solicit(now)

    def rest(self) -> None:
        """Ask no more; an answer that comes late is still heard."""
        self._timers.clear()

    def _forget(self) -> None:
        self.interface = self._path = self._requester.sent = None
        self._discovery.clear()
        self._timers.clear()

    def _ask(self, path: Path, now: float) -> None:
        self._path = path
        self._timers.cancel("solicit")
        self._send(now)

    def _send(self, now: float) -> None:
        assert self._path is not None
        datagram, repeat = self._requester.request(self._path, self._path.mode == "home", now)
        self._timers.set("request", repeat)
        self._out.add(SendDatagram(datagram))
        self._out.event("detecting", interface=self.interface, destination=str(datagram.destination))

    def _solicit(self, now: float) -> None:
        assert self.interface is not None
        message, interval = self._discovery.solicit(self.interface)
        self._timers.set("solicit", now + interval)
        self._out.add(SendAgentMessage(message))

    def receive_agent_message(self, message: AgentMessage, now: float) -> None:
        """Take an advertisement on the link in question; the first agent that helps is asked."""
        heard = self._discovery.receive(message, now)
        if heard is None or self._path is not None:
            return
        agent, _ = heard
        assert self.interface is not None
        self._requester.responses.heard(agent.address, agent.challenge)
        if self._discovery.is_home(agent):
            home = Path("home", self.interface, self._home.address, self._home.address)
            self._ask(replace(home, agent_link_address=agent.link_address), now)
        elif self._discovery.suits(agent):
            ends = self.interface, self._home.address
            self._ask(Path.through(*ends, agent, 0, self._config.delivery), now)

    def receive(self, datagram: Datagram, now: float) -> bool:
        """Take a reply; False where it does not answer what was asked here."""
        sent = self._requester.sent
        if sent is None or datagram.interface != sent.path.interface or not _answers(datagram, sent):
            return False
        matched = self._requester.match(datagram, now)
        if matched is None:
            return True
        reply = matched[1]
        self._timers.clear()
        if reply.code == Code.HA_IDENTIFICATION_MISMATCH:  # the clocks agree now (§5.7.1)
            self._timers.set("request", self._requester.repetition.earliest(now))
            return True
        granted, path = accepted(reply.code), sent.path
        self._out.event(
            "detected",
            interface=path.interface,
            inside=granted and is_trusted(reply.extensions),
            mode=path.mode,
            care_of=str(path.care_of_address),
            agent=str(path.agent) if path.agent else None,
            code=reply.code,
            reason=describe(reply.code),
        )
        return True

    def tick(self, now: float) -> None:
        """Repeat what was not answered."""
        for due in self._timers.pop_due(now):
            if due == "request":
                self._send(now)
            else:
                self._solicit(now)

    def deadline(self) -> float | None:
        """The next `now` at which `tick` has something to do."""
        return self._timers.next()


def _answers(datagram: Datagram, sent: Sent) -> bool:
    try:
        reply = RegistrationReply.decode(datagram.payload)
    except WireError:
        return False
    return reply.low_identification == sent.low_identification
