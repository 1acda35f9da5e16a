"""The mobile node (RFC 5944 §2.4, §3.6)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random, SystemRandom

from testbed.mobileip.core.advertiser import is_unicast
from testbed.mobileip.core.agents import Agent
from testbed.mobileip.core.api import (
    AgentMessage,
    Clock,
    Datagram,
    Effect,
    Event,
    GratuitousArp,
    SendAgentMessage,
    SendDatagram,
    UseCoLocated,
    UseForeignAgent,
    UseHome,
    UseNothing,
)
from testbed.mobileip.core.config import INFINITE_LIFETIME, MobileNodeConfig
from testbed.mobileip.core.discovery import Discovery
from testbed.mobileip.core.registration import Path, Requester, Sent
from testbed.mobileip.core.timers import Timers, lifetime_left
from testbed.mobileip.wire.agent_advertisement import AgentFlag
from testbed.mobileip.wire.code import Code, accepted, describe, from_foreign_agent
from testbed.mobileip.wire.registration_reply import RegistrationReply

FAILED_AFTER = 5
"""Requests without a reply before `registration-failed` is told; asking goes on."""
_ARP_REPEATS = 2
_ARP_INTERVAL = 1.0

Use = UseCoLocated | UseForeignAgent | UseHome | UseNothing


class MobileNode:
    """Finds out where it is, keeps its home agent informed, and tells its shell which way packets go.

    `attach`, `discover`, `detach` and `deregister` are what a connection manager says; they count as
    indications of the link layer, so a request they cause is sent at once.
    """

    def __init__(self, config: MobileNodeConfig, clock: Clock, rng: Random | None = None) -> None:
        self.config = config
        self.counters: Counter[str] = Counter()
        self._effects: list[Effect] = []
        rng = rng or SystemRandom()
        self._requester = Requester(config, clock, self.counters, rng)
        self._discovery = Discovery(config, lambda: self._requester.home_agent, self.counters, rng)
        # request: send or repeat; renew, expire: the registration; agent: silent for too long; solicit; arp.
        self._timers: Timers[str] = Timers()
        self._interface: str | None = None
        self._discovering = False
        self._register = True
        self._deregistering = False  # asked for away from home, perhaps done
        self._care_of_index = 0  # of the agent's care-of addresses, the one to try
        self._path: Path | None = None
        self._use: Use | None = UseNothing()  # what the shell was told last; None: tell it again
        self._registered: Sent | None = None  # the request whose registration holds
        self._granted = 0
        self._arps_left = 0

    # What a connection manager says.

    def attach(self, interface: str, care_of: IPv4Address, now: float) -> None:
        """Use the co-located care-of address `care_of` on `interface` and register it directly.

        Raises ValueError for an address that cannot be a care-of address. Called again for the same
        attachment it registers anew and then tells the shell again what to use.
        """
        if not is_unicast(care_of) or care_of == self.config.home_address:
            raise ValueError(f"{care_of} cannot be a care-of address")
        path = Path("co-located", interface, care_of, care_of)
        if path != self._path:
            self._leave()
        self._interface, self._path = interface, path
        self._use = None if self._use != UseNothing() else self._use
        self._deregistering = False
        self._start(now)

    def discover(self, interface: str, now: float, register: bool = True) -> None:
        """Look for an agent on `interface`, to register through it or to find that this is home.

        Without `register` an agent found is only used as default router. Whatever was known before is
        forgotten, also of the same interface.
        """
        self._leave()
        self._interface, self._discovering, self._register = interface, True, register
        self._solicit(now)

    def detach(self, now: float) -> None:
        """Forget the attachment and the registration; send nothing."""
        self._leave()
        self._event("detached")

    def deregister(self, now: float) -> None:
        """Ask the home agent to delete all bindings, over the current attachment.

        Raises ValueError when there is none.
        """
        if self._path is None:
            raise ValueError("not attached: there is no way to reach the home agent")
        self._deregistering = True
        self._timers.cancel("renew")
        self._start(now)

    # What arrives, what is due, what is told.

    def receive(self, datagram: Datagram, now: float) -> None:
        """Take a reply."""
        self.counters["replies-received"] += 1
        matched = self._requester.match(datagram)
        if matched is None:
            return
        sent, reply = matched
        self._timers.cancel("request")
        self._event("reply", code=reply.code, reason=describe(reply.code), lifetime=reply.lifetime)
        if not accepted(reply.code) or (reply.lifetime == 0 < sent.lifetime):
            self._refused(sent, reply, now)
        elif sent.lifetime == 0:
            self._deregistered(sent)
        else:
            self._accepted(sent, reply, now)

    def receive_agent_message(self, message: AgentMessage, now: float) -> None:
        """Take an advertisement."""
        if message.interface != self._interface:
            self.counters["agent-messages-ignored"] += 1
            return
        heard = self._discovery.receive(message, now)
        if heard is None:
            return
        agent, news = heard
        if news:
            self._event(
                "agent-advertisement",
                agent=str(agent.address),
                home_agent=agent.has(AgentFlag.HOME_AGENT),
                foreign_agent=agent.is_foreign_agent,
                care_of=str(agent.mobility.care_of_addresses[0]) if agent.is_foreign_agent else None,
                busy=agent.has(AgentFlag.BUSY),
            )
        if self._deregistering:
            self._refresh(agent)
        elif self._discovering:
            self._heard(agent, now)
        else:
            self._heard_while_co_located(agent, now)

    def tick(self, now: float) -> None:
        """Repeat requests and solicitations, renew and expire the registration, notice silent agents."""
        for timer in self._timers.pop_due(now):
            if timer == "request":
                self._request_due(now)
            elif timer == "renew":
                self._renew(now)
            elif timer == "expire":
                self._expired()
            elif timer == "agent":
                self._agent_silent(now)
            elif timer == "solicit":
                self._solicit(now)
            else:
                self._gratuitous_arp(now)

    def deadline(self) -> float | None:
        """The next `now` at which `tick` has something to do; None when only input can change anything."""
        return self._timers.next()

    def effects(self) -> list[Effect]:
        """Drain the effects since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects

    def state(self, now: float) -> dict[str, object]:
        """A JSON-serialisable picture; a `lifetime_left` of null: not registered, or for ever."""
        registered, path, agent = self._registered, self._path, self._discovery.current
        return {
            "role": "mobile-node",
            "state": self._state(),
            "mode": path.mode if path else None,
            "interface": self._interface,
            "home_address": str(self.config.home_address),
            "home_agent": str(self._requester.home_agent),
            "care_of": str(path.care_of_address) if path and path.mode != "home" else None,
            "agent": str(agent.address) if agent else None,
            "registered": registered is not None,
            "lifetime": self._granted if registered else None,
            "lifetime_left": lifetime_left(self._timers.get("expire"), now) if registered else None,
            "clock_offset": round(self._requester.clock_offset, 3),
            "agents": [str(address) for address in self._discovery.addresses],
            "counters": dict(sorted(self.counters.items())),
        }

    def _state(self) -> str:
        path = self._path
        if self._interface is None:
            return "detached"
        if path is None or (path.mode == "foreign-agent" and self._discovery.current is None):
            return "discovering"
        if self._deregistering or path.mode == "home":
            if "request" in self._timers:
                return "deregistering"
            return "at-home" if path.mode == "home" else "deregistered"
        if not self._register:
            return "using-agent"
        return "registered" if self._registered and self._registered.path == path else "registering"

    # Agents (§2.4).

    def _solicit(self, now: float) -> None:
        if self._interface is not None:
            message, interval = self._discovery.solicit(self._interface)
            self._effects.append(SendAgentMessage(message))
            self._timers.set("solicit", now + interval)

    def _refresh(self, agent: Agent) -> Agent | None:
        """Note that the agent in use is heard; return what it was before, None for another agent."""
        current = self._discovery.current
        if current is None or agent.address != current.address:
            return None
        self._discovery.current = agent
        self._timers.set("agent", agent.expires)
        return current

    def _heard(self, agent: Agent, now: float) -> None:
        before = self._refresh(agent)
        if before is not None:
            path = self._path
            if path is None or path.mode == "home":
                return
            if path.care_of_address not in agent.mobility.care_of_addresses or agent.rebooted_since(before):
                self._event("agent-rebooted", agent=str(agent.address))
                self._use_agent(agent, now, at_once=False)
        elif (
            self._discovery.is_home(agent)
            or self._discovery.moved_to(agent, now)
            or (self._discovery.current is None and self._discovery.suits(agent))
        ):
            self._use_agent(agent, now)

    def _heard_while_co_located(self, agent: Agent, now: float) -> None:
        """An advertisement can show that this is home, or that registration must go through it (§2.4.1)."""
        path = self._path
        if path is None:
            return
        if self._discovery.is_home(agent):
            self._discovering = True
            self._use_agent(agent, now)
        elif (
            path.agent is None and agent.has(AgentFlag.REGISTRATION_REQUIRED) and self._discovery.suits(agent)
        ):
            self._path = replace(
                path,
                agent=agent.address,
                agent_link_address=agent.link_address,
                lifetime_limit=agent.mobility.registration_lifetime,
            )
            self._start(now, at_once=False)

    def _use_agent(self, agent: Agent, now: float, at_once: bool = True) -> None:
        current = self._discovery.current
        if current is None or agent.address != current.address:
            self._care_of_index = 0
        self._discovery.current = agent
        self._timers.cancel("solicit")
        self._timers.set("agent", agent.expires)
        if self._discovery.is_home(agent):
            self._go_home(agent, now)
            return
        self._path = self._path_through(agent)
        holds = self._registered is not None and self._registered.path == self._path
        assert self._path.agent_link_address is not None
        self._take(UseForeignAgent(self._path.interface, agent.address, self._path.agent_link_address, holds))
        if self._register:
            self._start(now, at_once)

    def _path_through(self, agent: Agent) -> Path:
        assert self._interface is not None
        addresses = agent.mobility.care_of_addresses
        return Path(
            "foreign-agent",
            self._interface,
            self.config.home_address,
            addresses[self._care_of_index % len(addresses)],
            agent.address,
            agent.link_address,
            agent.mobility.registration_lifetime,
        )

    def _agent_silent(self, now: float) -> None:
        """§2.4.2.1. What was granted holds until it expires; the agent may come back."""
        agent = self._discovery.current
        if agent is None:
            return
        self.counters["agents-lost"] += 1
        self._event("lost-agent", agent=str(agent.address))
        self._discovery.restart()
        if self._deregistering:
            return
        if self._path is not None and self._path.mode == "foreign-agent":
            self._requester.sent = None
            self._timers.cancel("request")
        other = self._discovery.best(now)
        if other is not None:
            self._use_agent(other, now)
        else:
            self._solicit(now)

    def _go_home(self, agent: Agent, now: float) -> None:
        """§2.4.3, in the order of §4.6: routes, gratuitous ARP, request."""
        assert self._interface is not None
        home = Path("home", self._interface, self.config.home_address, self.config.home_address)
        if self._path == home:
            return
        self._path = home
        self._timers.cancel("renew")
        router = self.config.home_router
        if router is None:
            router = next((each for each in agent.routers if each in self.config.home_prefix), None)
        self._take(UseHome(self._interface, router))
        self._event("at-home", agent=str(agent.address))
        self._arps_left = 1 + _ARP_REPEATS
        self._gratuitous_arp(now)
        if self._register:
            self._start(now)

    def _gratuitous_arp(self, now: float) -> None:
        if self._path is None or self._path.mode != "home":
            return
        self._effects.append(GratuitousArp(self.config.home_address, self._interface))
        self._arps_left -= 1
        if self._arps_left > 0:
            self._timers.set("arp", now + _ARP_INTERVAL)

    # Registration (§3.6).

    def _start(self, now: float, at_once: bool = True) -> None:
        """Begin asking; unless `at_once`, after a move, not sooner than the last request allows."""
        self._requester.begin()
        earliest = self._requester.earliest(now)
        if at_once or earliest <= now:
            self._send(now)
        else:
            self._timers.set("request", earliest)

    def _send(self, now: float) -> None:
        path = self._path
        if path is None or (path.mode == "foreign-agent" and self._discovery.current is None):
            return  # no way to the home agent; when an agent is found all begins anew
        deregister = self._deregistering or path.mode == "home"
        datagram, repeat = self._requester.request(path, deregister, now)
        self._timers.set("request", repeat)
        self._effects.append(SendDatagram(datagram))
        self._event(
            "request-sent",
            mode=path.mode,
            care_of=None if deregister else str(path.care_of_address),
            destination=str(datagram.destination),
            deregister=deregister,
        )

    def _request_due(self, now: float) -> None:
        if self._requester.sent is not None:
            self.counters["requests-timed-out"] += 1
            if self._requester.unanswered % FAILED_AFTER == 0:
                self._event("registration-failed", reason="timeout", code=None)
                self._try_elsewhere(now)
        self._send(now)

    def _renew(self, now: float) -> None:
        if "request" in self._timers:
            return  # being asked for already
        other = self._discovery.moved(now) if self._discovering else None
        if other is not None:
            self._use_agent(other, now)
        else:
            self._start(now, at_once=False)

    def _accepted(self, sent: Sent, reply: RegistrationReply, now: float) -> None:
        """§3.6.2.2: the lifetime counts from the request on."""
        self._requester.granted()
        granted = min(reply.lifetime, sent.lifetime)
        path = sent.path
        renewal = self._registered is not None and self._registered.path == path
        self._registered, self._granted = sent, granted
        if granted == INFINITE_LIFETIME:
            self._timers.cancel("expire")
            self._timers.cancel("renew")
        else:
            margin = min(granted / 2, max(granted / 10, 7.0))  # time for a few repetitions
            self._timers.set("expire", sent.at + granted)
            self._timers.set("renew", max(sent.at + granted - margin, self._requester.earliest(now)))
        if path.mode == "co-located":
            reverse = self.config.reverse_tunnel
            self._take(UseCoLocated(path.interface, path.care_of_address, reply.home_agent, reverse))
        elif path.agent is not None and path.agent_link_address is not None:
            self._take(UseForeignAgent(path.interface, path.agent, path.agent_link_address, True))
        self._event(
            "registered",
            mode=path.mode,
            care_of=str(path.care_of_address),
            agent=str(path.agent) if path.agent else None,
            home_agent=str(reply.home_agent),
            lifetime=granted,
            renewal=renewal,
        )

    def _deregistered(self, sent: Sent) -> None:
        self._requester.granted()
        self._forget_registration()
        if sent.path.mode != "home":
            self._take(UseNothing())
        self._event("deregistered", mode=sent.path.mode)

    def _refused(self, sent: Sent, reply: RegistrationReply, now: float) -> None:
        """§3.6.2.3: repair what can be repaired, and ask again, ever less often."""
        code = reply.code
        self.counters[f"denied-{code}"] += 1
        delay = self._requester.refused(reply, now)
        if delay:
            self._event("registration-failed", reason=describe(code), code=code)
        if code == Code.FA_LIFETIME_TOO_LONG and 0 < reply.lifetime < sent.lifetime:
            self._path = replace(sent.path, lifetime_limit=reply.lifetime)
        elif from_foreign_agent(code):
            self._try_elsewhere(now)
        self._timers.set("request", max(self._requester.earliest(now), now + delay))

    def _try_elsewhere(self, now: float) -> None:
        """Point the next request at the agent's next care-of address, then at another agent (§2.4)."""
        agent, path = self._discovery.current, self._path
        if agent is None or path is None or path.mode != "foreign-agent" or self._deregistering:
            return
        self._care_of_index += 1
        if self._care_of_index >= len(agent.mobility.care_of_addresses):
            self._care_of_index = 0
            agent = self._discovery.alternative(agent, now)
            self._discovery.current = agent
            self._timers.set("agent", agent.expires)
        self._path = self._path_through(agent)

    def _expired(self) -> None:
        self.counters["registrations-expired"] += 1
        self._forget_registration()
        self._event("registration-expired")
        use = self._use
        if isinstance(use, UseForeignAgent) and self._discovery.current is not None:
            self._take(replace(use, registered=False))
        elif not isinstance(use, UseHome):
            self._take(UseNothing())

    def _forget_registration(self) -> None:
        self._registered, self._granted = None, 0
        self._timers.cancel("expire")
        self._timers.cancel("renew")

    def _leave(self) -> None:
        """Forget all about the attachment."""
        self._take(UseNothing())
        self._forget_registration()
        self._timers.clear()
        self._discovery.clear()
        self._requester.sent = None
        self._interface = self._path = None
        self._discovering = self._deregistering = False
        self._register = True
        self._care_of_index = 0

    def _take(self, use: Use) -> None:
        if use != self._use:
            self._use = use
            self._effects.append(use)

    def _event(self, name: str, **fields: str | int | float | bool | None) -> None:
        self._effects.append(Event(name, fields))
