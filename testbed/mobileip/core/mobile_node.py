"""The mobile node (RFC 5944 §2.4, §3.6)."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address
from random import Random, SystemRandom

from testbed.mobileip.core.api import (
    AgentMessage,
    Clock,
    Datagram,
    Effect,
)
from testbed.mobileip.core.counters import MOBILE_NODE
from testbed.mobileip.core.discards import Discards
from testbed.mobileip.core.keepalive import Keepalives
from testbed.mobileip.core.links import is_unicast
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.mobile.detection import Detection
from testbed.mobileip.core.mobile.discovery import Discovery
from testbed.mobileip.core.mobile.home_address import HomeAddress
from testbed.mobileip.core.mobile.movement import Movement
from testbed.mobileip.core.mobile.path import Path
from testbed.mobileip.core.mobile.refusals import CHALLENGED
from testbed.mobileip.core.mobile.registrar import Registrar
from testbed.mobileip.core.mobile.requests import Requester
from testbed.mobileip.core.mobile.revocation import NodeRevocation
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.timers import Timers, lifetime_left
from testbed.mobileip.wire.code import Code, from_foreign_agent
from testbed.mobileip.wire.revocation import REVOCATION
from testbed.mobileip.wire.udp_tunnel import DATA


class MobileNode:
    """Finds out where it is, registers with its home agent, and reports to its shell which way packets go.

    `attach`, `discover`, `detach` and `deregister` are what a connection manager says; they count as
    indications of the link layer, so a request they cause is sent at once.
    """

    def __init__(self, config: MobileNodeConfig, clock: Clock, rng: Random | None = None) -> None:
        self.config = config
        self.counters = Counter(dict.fromkeys(MOBILE_NODE, 0))
        self._out = Outbox()
        rng = rng or SystemRandom()
        self._timers: Timers[str] = Timers()
        self._keepalives = Keepalives(config.keepalive, self.counters, config.port)
        discards = Discards(self._out, self.counters)
        self._home = HomeAddress(config)
        revocation = NodeRevocation(config, clock, self._out, self.counters, discards)
        self._requester = Requester(config, self._home, clock, self.counters, discards, rng, revocation)
        self._registrar = Registrar(
            self._requester, config, self._timers, self._out, self.counters, self._keepalives
        )
        where = self._home, lambda: self._requester.home_agent
        self._discovery = Discovery(config, *where, self.counters, discards, rng)

        def detection() -> Detection:
            identifiers = self._requester.identifiers
            beside = Requester(
                config, self._home, clock, self.counters, discards, rng, revocation, identifiers
            )
            there = Discovery(config, *where, self.counters, discards, rng)
            return Detection(config, self._home, beside, there, self._out)

        self._make_detection = detection
        self._detection: Detection | None = (
            None  # until it is wanted: few need it, and it takes a third of the room
        )
        self._movement = Movement(
            config, self._home, self._discovery, self._registrar, self._timers, self._out, self.counters
        )

    # What a connection manager says.

    def attach(self, interface: str, care_of: IPv4Address, now: float) -> None:
        """Use the co-located care-of address `care_of` on `interface` and register it directly.

        Raises ValueError for an address that cannot be a care-of address. Called again for the same
        attachment it registers anew and then reports to the shell again what to use.
        """
        if not is_unicast(care_of) or care_of == self._home.address:
            raise ValueError(f"{care_of} cannot be a care-of address")
        path = Path("co-located", interface, care_of, care_of)
        if path != self._registrar.path:
            self._movement.leave(interface)
        self._movement.interface, self._registrar.path = interface, path
        self._registrar.usage.tell_again()
        self._registrar.deregistering = False
        self._requester.repetition.moved()
        self._registrar.start(now)

    def discover(self, interface: str, now: float, register: bool = True) -> None:
        """Look for an agent on `interface`, to register through it or to find that this is home.

        Without `register` an agent found is only used as default router. Whatever was known of another
        attachment is forgotten; said again of the same one, it asks again unless an agent was found already.
        """
        self._movement.discover(interface, now, register)

    def detach(self, now: float, moving: bool = False) -> None:
        """Forget the attachment, and the registration too unless `moving` on may overlap; send nothing."""
        self._movement.leave("" if moving else None)
        self._out.event("detached")

    def deregister(self, now: float) -> None:
        """Ask the home agent to delete all bindings, over the current attachment.

        Raises ValueError when there is none.
        """
        if self._registrar.path is None:
            raise ValueError("not attached: there is no way to reach the home agent")
        self._registrar.deregistering = True
        self._timers.cancel("renew")
        self._requester.repetition.moved()
        self._registrar.start(now)

    def renew(self, now: float) -> None:
        """Ask the home agent again for what it granted last, to see that it can still be reached.

        Raises ValueError where nothing was asked for.
        """
        if self._registrar.path is None or not self._movement.register:
            raise ValueError("there is no registration to renew")
        self._movement.renew(now)

    def detect(self, interface: str, now: float, care_of: IPv4Address | None = None) -> None:
        """Find out whether another link is inside (RFC 5265 §3.3); what is registered stays.

        Asks from `care_of`, or without it through an agent. Raises ValueError for an address that cannot be
        a care-of address.
        """
        self._detection = self._detection or self._make_detection()
        self._detection.begin(interface, care_of, now)

    def rest(self) -> None:
        """Ask no more whether a link is inside; an answer that comes late is still heard."""
        if self._detection is not None:
            self._detection.rest()

    # What becomes of requests, what arrives, what is due, what is reported.

    def departed(self, now: float) -> None:
        """The last request left this node at `now`, perhaps later than it was to."""
        self._registrar.departed(now)

    def held_back(self) -> None:
        """The last request still waits inside this node, for ARP say; `departed` may follow."""
        self._registrar.held_back()

    def receive(self, datagram: Datagram, now: float) -> None:
        """Take a reply, or what came out of a tunnel in UDP: the reply to a keepalive maybe."""
        if datagram.payload[:1] == bytes((DATA,)):
            self._keepalives.receive(datagram, now)
            return
        if datagram.payload[:1] == bytes((REVOCATION,)):
            if (revoked := self._requester.revocation.receive(datagram, now)) is not None:
                self._registrar.revoked(revoked, now)
            return
        if self._detection is not None and self._detection.receive(datagram, now):
            return
        path, known = self._registrar.path, self._home.known
        code = self._registrar.receive(datagram, now)
        if self._home.known > known and path is not None and path.mode == "home":
            self._movement.go_home(now)
        if code is None or not from_foreign_agent(code) or code == Code.FA_LIFETIME_TOO_LONG:
            return
        if code in CHALLENGED and path is not None and path.agent is not None:
            if self._requester.responses.spent(path.agent):
                self._movement.solicit(now)  # RFC 4721 §3.3: the reply has offered none
        elif self._registrar.path is path:  # else the same agent is asked for less
            self._movement.try_elsewhere(now)

    def receive_agent_message(self, message: AgentMessage, now: float) -> None:
        """Take an advertisement."""
        if self._detection is not None and message.interface == self._detection.interface:
            self._detection.receive_agent_message(message, now)
            if message.interface != self._movement.interface:
                return
        if message.interface != self._movement.interface:
            self.counters["agent-messages-ignored"] += 1
            return
        heard = self._discovery.receive(message, now)
        if heard is None:
            return
        agent, news = heard
        self._requester.responses.heard(agent.address, agent.challenge)
        if news:
            self._out.event("agent-advertisement", **agent.words())
        self._movement.heard(agent, now)

    def tick(self, now: float) -> None:
        """Repeat requests and solicitations, renew and expire the registration, notice silent agents."""
        for timer in self._timers.pop_due(now):
            if timer == "request":
                if self._registrar.timed_out():
                    self._movement.try_elsewhere(now)
                self._registrar.send(now)
            elif timer == "renew":
                self._movement.renew(now)
            elif timer in ("expire", "drop"):
                self._registrar.due(timer, now)
            elif timer == "agent":
                self._movement.agent_silent(now)
            else:
                self._movement.solicit(now)
        if self._detection is not None:
            self._detection.tick(now)
        self._movement.arps.tick(now)
        keepalives, lost = self._keepalives.tick(now)
        self._out.add(*keepalives)
        for home_address in lost:  # RFC 3519 §4.10: a new request shows the new mapping
            self._out.event("mapping-lost", keepalive=self._keepalives.shorten(home_address))
            if not self._registrar.asking:
                self._registrar.start(now)

    def deadline(self) -> float | None:
        """The next `now` at which `tick` has something to do; None when only input can change anything."""
        due = [self._timers.next(), self._movement.arps.next(), self._keepalives.deadline()]
        if self._detection is not None:
            due.append(self._detection.deadline())
        return min((when for when in due if when is not None), default=None)

    def effects(self) -> list[Effect]:
        """Drain the effects since the last call, in order."""
        return self._out.drain()

    def state(self, now: float) -> dict[str, object]:
        """A JSON-serialisable picture; a `lifetime_left` of null: not registered, or for ever."""
        registered, path = self._registrar.registered, self._registrar.path
        movement = self._movement
        agent = self._discovery.current
        return {
            "role": "mobile-node",
            "state": self._registrar.state(self._movement.register)
            if self._movement.interface
            else "detached",
            "mode": path.mode if path else None,
            "interface": movement.interface,
            "home_address": str(self._home.address) if self._home.known else None,
            "nai": self.config.nai,
            "home_agent": str(self._requester.home_agent),
            "care_of": str(path.care_of_address) if path and path.mode != "home" else None,
            "former_care_of": [*map(str, self._registrar.former.care_of_addresses)],
            "agent": str(agent.address) if agent else None,
            "registered": registered is not None,
            "lifetime": self._registrar.granted if registered else None,
            "lifetime_left": lifetime_left(self._timers.get("expire"), now) if registered else None,
            "keepalive": self._keepalives.interval(self._home.address),
            "clock_offset": round(self._requester.clock_offset, 3),
            "agents": [str(address) for address in self._discovery.addresses],
            "counters": dict(sorted(self.counters.items())),
        }
