"""The mobile node's registration: asked for, granted, renewed, given back, expired (RFC 5944 §3.6)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from testbed.mobileip.core.api import (
    Datagram,
    SendDatagram,
    TunnelEnd,
    UseCoLocated,
    UseForeignAgent,
    UseHome,
    UseHomeAddress,
    UseNothing,
)
from testbed.mobileip.core.encapsulations import agreed
from testbed.mobileip.core.keepalive import Keepalives
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.parameters import INFINITE_LIFETIME, MobileNodeConfig
from testbed.mobileip.core.registration import Path, Requester, Sent, refuses_encapsulation
from testbed.mobileip.core.timers import Timers
from testbed.mobileip.core.udp_tunnel import answered
from testbed.mobileip.wire.code import Code, accepted, describe
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.registration_reply import RegistrationReply

FAILED_AFTER = 5
"""Requests without a reply before `registration-failed` is reported; requests go on."""

Use = UseCoLocated | UseForeignAgent | UseHome | UseNothing


class Registrar:
    """Asks over `path` for as long as there is something to ask for.

    Uses the timers request (send or repeat), renew and expire.
    """

    def __init__(
        self,
        requester: Requester,
        config: MobileNodeConfig,
        timers: Timers[str],
        out: Outbox,
        counters: Counter[str],
        keepalives: Keepalives,
    ) -> None:
        self.path: Path | None = None
        """Where requests go; None while there is no way to the home agent."""
        self.deregistering = False
        """Whether the next requests give the registration back, away from home."""
        self.registered: Sent | None = None
        """The request whose registration holds."""
        self.granted = 0
        self._requester = requester
        self._reverse_tunnel, self._broadcasts = config.reverse_tunnel, config.broadcasts
        self._timers = timers
        self._out = out
        self._counters = counters
        self._keepalives = keepalives
        self._use: Use | None = UseNothing()  # what the shell got last; None: report it again

    @property
    def asking(self) -> bool:
        """Whether a request is under way or to be sent again."""
        return "request" in self._timers

    def state(self, register: bool) -> str:
        """How far it is, in one word; without `register` the agent is only used as default router."""
        path = self.path
        if path is None:
            return "discovering"
        if self.deregistering or path.mode == "home":
            if self.asking:
                return "deregistering"
            return "at-home" if path.mode == "home" else "deregistered"
        if not register:
            return "using-agent"
        return "registered" if self.registered and self.registered.path == path else "registering"

    def start(self, now: float) -> None:
        """There is something new to ask for; begin as soon as the last request allows."""
        self._requester.begin()
        earliest = self._requester.earliest(now)
        if earliest <= now:
            self.send(now)
        else:
            self._timers.set("request", earliest)

    def go_without_agent(self, now: float) -> bool:
        """The agent in use is gone; return whether no other is needed.

        With a care-of address of its own a mobile node needs none where nobody requires that (§2.4.1).
        """
        path = self.path
        if path is not None and path.mode == "foreign-agent":
            self.suspend()
        if path is None or path.mode != "co-located":
            return False
        self.path = Path(path.mode, path.interface, path.source, path.source)
        if self.asking or not self.deregistering:
            self.start(now)
        return True

    def suspend(self) -> None:
        """There is no way to the home agent; what was granted holds until it expires."""
        self.path = None
        self._requester.sent = None
        self._timers.cancel("request")

    def leave(self) -> None:
        """The attachment was left: nothing holds any more."""
        self.suspend()
        self._requester.moved()
        self.use(UseNothing())
        self.deregistering = False
        self.forget()

    def forget(self) -> None:
        """The registration has ended."""
        self.registered, self.granted = None, 0
        self._requester.revocation.forget()
        self._timers.cancel("expire")
        self._timers.cancel("renew")
        self._keepalives.clear()

    def send(self, now: float) -> None:
        """Send a request, if there is a way, and plan the next."""
        path = self.path
        if path is None:
            return
        deregister = self.deregistering or path.mode == "home"
        datagram, repeat = self._requester.request(path, deregister, now)
        self._timers.set("request", repeat)
        self._out.add(SendDatagram(datagram))
        self._out.event(
            "request-sent",
            mode=path.mode,
            care_of=None if deregister else str(path.care_of_address),
            destination=str(datagram.destination),
            deregister=deregister,
        )

    def departed(self, now: float) -> None:
        """The last request left this node at `now`: what follows is counted from there on (§3.6.3)."""
        self._postpone(self._requester.departed(now))

    def held_back(self) -> None:
        """The last request still waits inside this node for its next hop's link address."""
        self._postpone(self._requester.held_back())

    def _postpone(self, repeat: float | None) -> None:
        if repeat is not None and self._requester.sent is not None:
            self._timers.set("request", repeat)

    def timed_out(self) -> bool:
        """Whether the request due again has gone unanswered so often that something else is to be tried."""
        if self._requester.sent is None:
            return False
        self._counters["requests-timed-out"] += 1
        if self._requester.unanswered % FAILED_AFTER:
            return False
        self._out.event("registration-failed", reason="timeout", code=None)
        return True

    def receive(self, datagram: Datagram, now: float) -> int | None:
        """Take a reply; return its code, None if it answers nothing."""
        self._counters["replies-received"] += 1
        matched = self._requester.match(datagram, now)
        if matched is None:
            return None
        sent, reply = matched
        self._timers.cancel("request")
        self._out.event("reply", code=reply.code, reason=describe(reply.code), lifetime=reply.lifetime)
        if self._requester.home.take(reply):
            self._out.add(UseHomeAddress(reply.home_address))
            self.tell_again()
            self._out.event("home-address", home_address=str(reply.home_address))
        if not accepted(reply.code) or reply.lifetime == 0 < sent.lifetime:
            self._refused(sent, reply, now)
        elif sent.lifetime == 0:
            self._deregistered(sent)
        else:
            self._accepted(sent, reply, now)
        return reply.code

    def expired(self) -> None:
        """The registration was not renewed in time."""
        self._counters["registrations-expired"] += 1
        self._end("registration-expired")

    def revoked(self, now: float) -> None:
        """The home agent has revoked the registration: ask for another (RFC 3543 §1)."""
        self._end("registration-revoked")
        self.start(now)

    def _end(self, event: str) -> None:
        """Nothing is registered any more; `event` reports why."""
        self.forget()
        self._out.event(event)
        if isinstance(self._use, UseForeignAgent) and self.path is not None:
            self.use(replace(self._use, registered=False, broadcasts_from=None))
        elif not isinstance(self._use, UseHome):
            self.use(UseNothing())

    def use(self, use: Use) -> None:
        """Tell the shell which way packets go, unless it knows."""
        if use != self._use:
            self._use = use
            self._out.add(use)

    def use_agent(self, path: Path, registered: bool) -> None:
        """Tell the shell to use the foreign agent of `path`."""
        assert path.agent is not None
        assert path.agent_link_address is not None
        broadcasts_from = self._requester.home_agent if registered and self._broadcasts else None
        self.use(
            UseForeignAgent(path.interface, path.agent, path.agent_link_address, registered, broadcasts_from)
        )

    def tell_again(self) -> None:
        """Report to the shell next time even what it knows: the link may have lost it."""
        if self._use != UseNothing():
            self._use = None

    def _accepted(self, sent: Sent, reply: RegistrationReply, now: float) -> None:
        """§3.6.2.2: the lifetime counts from the request on."""
        self._requester.granted()
        granted = min(reply.lifetime, sent.lifetime)
        if granted != INFINITE_LIFETIME and sent.at + granted <= now:  # asked for long ago, and over
            self._timers.set("request", self._requester.earliest(now))
            return
        path = sent.path
        renewal = self.registered is not None and self.registered.path == path
        self.registered, self.granted = sent, granted
        self._requester.revocation.answered(reply, path.care_of_address)
        if granted == INFINITE_LIFETIME:
            self._timers.cancel("expire")
            self._timers.cancel("renew")
        else:
            margin = min(granted / 2, max(granted / 10, 7.0))  # time for a few repetitions
            self._timers.set("expire", sent.at + granted)
            self._timers.set("renew", max(sent.at + granted - margin, self._requester.earliest(now)))
        if path.mode == "co-located":
            self._use_co_located(sent, reply, now)
        elif path.agent is not None and path.agent_link_address is not None:
            self.use_agent(path, registered=True)
        self._out.event(
            "registered",
            mode=path.mode,
            care_of=str(path.care_of_address),
            agent=str(path.agent) if path.agent else None,
            home_agent=str(reply.home_agent),
            encapsulation=agreed(sent.flags)[0].value,
            lifetime=granted,
            renewal=renewal,
            requested=round(sent.at, 6),
        )

    def _use_co_located(self, sent: Sent, reply: RegistrationReply, now: float) -> None:
        path, end = sent.path, TunnelEnd(reply.home_agent, agreed(sent.flags))
        # RFC 3519 §3.1.1: without an assenting answer to what was asked there is no tunnel in UDP.
        answer = answered(reply, to_agent=False) if sent.udp_tunnel else None
        in_udp = answer is not None and answer.assents
        interval = 0.0
        if answer is not None and in_udp:
            end = TunnelEnd(reply.home_agent, (Encapsulation.UDP,))
            ends = (path.source, reply.home_agent, path.interface)
            interval = self._keepalives.keep(reply.home_address, ends, answer.keepalive, sent.at)
            if path.agent is not None:
                self._keepalives.probe(reply.home_address, now)
        else:
            self._keepalives.clear()
        self.use(UseCoLocated(path.interface, path.care_of_address, end, self._reverse_tunnel or in_udp))
        if answer is not None and in_udp:
            self._out.event("udp-tunnel", forced=answer.forced, keepalive=interval)

    def _deregistered(self, sent: Sent) -> None:
        self._requester.granted()
        self.forget()
        if sent.path.mode != "home":
            self.use(UseNothing())
        self._out.event("deregistered", mode=sent.path.mode, requested=round(sent.at, 6))

    def _refused(self, sent: Sent, reply: RegistrationReply, now: float) -> None:
        """§3.6.2.3: repair what can be repaired, and ask again, ever less often."""
        code = reply.code
        self._counters[f"denied-{code}"] += 1
        delay = self._requester.refused(sent, reply)
        if delay:
            self._out.event("registration-failed", reason=describe(code), code=code)
        if code == Code.FA_LIFETIME_TOO_LONG and 0 < reply.lifetime < sent.lifetime:
            self.path = replace(sent.path, lifetime_limit=reply.lifetime)
        elif refuses_encapsulation(sent, reply):
            self.path = replace(sent.path, encapsulations=())
        self._timers.set("request", max(self._requester.earliest(now), now + delay))
