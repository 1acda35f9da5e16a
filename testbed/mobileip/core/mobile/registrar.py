"""The mobile node's registration: asked for, granted, renewed, given back, expired (RFC 5944 §3.6)."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Datagram, SendDatagram, TunnelEnd
from testbed.mobileip.core.encapsulations import agreed
from testbed.mobileip.core.keepalive import Keepalives
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.mobile.effects import UseHomeAddress, UseNothing
from testbed.mobileip.core.mobile.former import TIMER, FormerBindings
from testbed.mobileip.core.mobile.path import Path, Sent
from testbed.mobileip.core.mobile.refusals import asking_for_less
from testbed.mobileip.core.mobile.requests import Requester
from testbed.mobileip.core.mobile.usage import Usage
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.parameters import INFINITE_LIFETIME
from testbed.mobileip.core.timers import Timers
from testbed.mobileip.wire.code import Code, accepted, describe
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.trusted import is_trusted

PATIENCE = 3
"""Requests without a reply after which another home agent is asked, if there is one: seven seconds."""
FAILED_AFTER = 5
"""Requests without a reply before `registration-failed` is reported; requests go on."""


class Registrar:
    """Asks over `path` for as long as there is something to ask for.

    Uses the timers request (send or repeat), renew, expire and drop (`former.TIMER`).
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
        self.former = FormerBindings(config.overlap, timers)
        """Care-of addresses that are kept beside the present one."""
        self.usage = Usage(config, requester.home_agents, self.former, out, keepalives)
        """What the shell is to use."""
        self._requester = requester
        self._timers = timers
        self._out = out
        self._counters = counters
        self._keepalives = keepalives

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
        self.former.dropping, self.former.refused = None, False
        self._requester.home_agents.begin()
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._requester.begin()
        earliest = self._requester.repetition.earliest(now)
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

    def leave(self, to: str | None) -> None:
        """The attachment was left: nothing holds any more, unless the way `to` another interface overlaps."""
        present, path = self.registered, self.path
        self.suspend()
        self._requester.repetition.moved()
        keep = to is not None and self.former.overlaps and not self.deregistering
        at_home = path is not None and path.mode == "home"
        if keep and present is not None and present.path.interface != to and not at_home:
            self._timers.cancel("renew")
            return
        self.usage.use(UseNothing())
        self.deregistering = False
        self.forget()

    def forget(self) -> None:
        """The registration has ended."""
        self.registered, self.granted = None, 0
        self._requester.revocation.forget()
        self._timers.cancel("expire")
        self._timers.cancel("renew")
        self._keepalives.clear()
        self.former.clear()

    def send(self, now: float) -> None:
        """Send a request, if there is a way, and plan the next."""
        path = self.path
        if path is None:
            return
        deregister = self.deregistering or path.mode == "home"
        drop = None if deregister else self.former.dropping
        beside = not deregister and drop is None and self._beside(path)
        datagram, repeat = self._requester.request(path, deregister, now, beside=beside, drop=drop)
        self._timers.set("request", repeat)
        self._out.add(SendDatagram(datagram))
        self._out.event(
            "request-sent",
            mode=path.mode,
            care_of=None if deregister else str((drop or path).care_of_address),
            destination=str(datagram.destination),
            deregister=deregister or drop is not None,
        )

    def _beside(self, path: Path) -> bool:
        return self.former.beside(self.registered.path if self.registered else None, path)

    def due(self, timer: str, now: float) -> None:
        """The registration has expired, or an earlier care-of address is to be given back."""
        if timer == TIMER:
            self._drop(now)
        else:
            self._expired()

    def _drop(self, now: float) -> None:
        """What else is to be asked comes first."""
        if self.asking or self.path is None:
            self._timers.set(TIMER, now + 1.0)
            return
        self.former.dropping = self.former.next()
        self._begin(now)

    def departed(self, now: float) -> None:
        """The last request left this node at `now`: what follows is counted from there on (§3.6.3)."""
        self._postpone(self._requester.repetition.departed(now))

    def held_back(self) -> None:
        """The last request still waits inside this node for its next hop's link address."""
        self._postpone(self._requester.repetition.held_back())

    def _postpone(self, repeat: float | None) -> None:
        if repeat is not None and self._requester.sent is not None:
            self._timers.set("request", repeat)

    def timed_out(self) -> bool:
        """Whether the request due again has gone unanswered so often that something else is to be tried."""
        if self._requester.sent is None:
            return False
        self._counters["requests-timed-out"] += 1
        if self._requester.repetition.unanswered >= PATIENCE:
            if self._requester.sent.drop is not None:
                self.former.clear()  # the home agent lets them expire
            elif self._requester.home_agents.failed():
                self._ask_another("timeout")
                return False
        if self._requester.repetition.unanswered % FAILED_AFTER:
            return False
        self._out.event("registration-failed", reason="timeout", code=None)
        return True

    def receive(self, datagram: Datagram, now: float) -> int | None:
        """Take a reply; return its code, None if it answers nothing or another home agent is asked now."""
        self._counters["replies-received"] += 1
        matched = self._requester.match(datagram, now)
        if matched is None:
            return None
        sent, reply = matched
        self._timers.cancel("request")
        self._out.event("reply", code=reply.code, reason=describe(reply.code), lifetime=reply.lifetime)
        if sent.drop is not None:
            self._dropped(sent.drop, reply.code, now)
            return None
        if self._requester.home.take(reply):
            self._out.add(UseHomeAddress(reply.home_address))
            self.usage.tell_again()
            self._out.event("home-address", home_address=str(reply.home_address))
        if not accepted(reply.code) or reply.lifetime == 0 < sent.lifetime:
            if self._refused(sent, reply, now):
                return None
        elif sent.lifetime == 0:
            self._deregistered(sent, reply)
        else:
            self._accepted(sent, reply, datagram.source, now)
        return reply.code

    def _expired(self) -> None:
        """The registration was not renewed in time."""
        self._counters["registrations-expired"] += 1
        self._end("registration-expired")

    def revoked(self, care_of: IPv4Address, now: float) -> None:
        """The home agent has revoked a registration: ask again, unless it is a former one (RFC 3543 §1)."""
        if self.former.revoked(care_of):
            self._out.event("care-of-revoked", care_of=str(care_of))
            self.usage.former_changed()
        elif self.registered is not None and self.registered.path.care_of_address == care_of:
            self._end("registration-revoked")
            self.start(now)

    def _end(self, event: str) -> None:
        """Nothing is registered any more; `event` reports why."""
        self.forget()
        self._out.event(event)
        self.usage.ended(self.path)

    def use_agent(self, path: Path, registered: bool) -> None:
        """Tell the shell to use the foreign agent of `path`; not before it has registered us if that is not
        to interrupt what is registered.
        """
        if registered or not self._beside(path):
            self.usage.agent(path, registered)

    def _accepted(self, sent: Sent, reply: RegistrationReply, source: IPv4Address, now: float) -> None:
        """§3.6.2.2: the lifetime counts from the request on."""
        self._requester.granted()
        granted = min(reply.lifetime, sent.lifetime)
        if granted != INFINITE_LIFETIME and sent.at + granted <= now:  # asked for long ago, and over
            self._timers.set("request", self._requester.repetition.earliest(now))
            return
        path = sent.path
        renewal = self.registered is not None and self.registered.path == path
        present = self.registered.path if self.registered else None
        self.former.accepted(sent, reply, present, self.usage.tunnel, now)
        self.registered, self.granted = sent, granted
        former = self.former.care_of_addresses
        self._requester.revocation.answered(reply, path.care_of_address, former)
        if granted == INFINITE_LIFETIME:
            self._timers.cancel("expire")
            self._timers.cancel("renew")
        else:
            margin = min(granted / 2, max(granted / 10, 7.0))  # time for a few repetitions
            self._timers.set("expire", sent.at + granted)
            earliest = self._requester.repetition.earliest(now)
            self._timers.set("renew", max(sent.at + granted - margin, earliest))
        # RFC 3024 §5.2: the agent's address is the source of its reply.
        agent = TunnelEnd(source, agreed(sent.flags)) if sent.encapsulating else None
        self.usage.accepted(sent, reply, agent, now)
        self._out.event(
            "registered",
            mode=path.mode,
            care_of=str(path.care_of_address),
            agent=str(path.agent) if path.agent else None,
            home_agent=str(reply.home_agent),
            encapsulation=agreed(sent.flags)[0].value,
            lifetime=granted,
            renewal=renewal,
            beside=len(former),
            **_proof(sent, reply),
        )

    def _dropped(self, path: Path, code: int, now: float) -> None:
        """Whatever the home agent says: it lets expire what it has not deleted."""
        self.former.remove(path.care_of_address, now)
        self._out.event("care-of-given-back", care_of=str(path.care_of_address), code=code)
        self.usage.former_changed()

    def _deregistered(self, sent: Sent, reply: RegistrationReply) -> None:
        self._requester.granted()
        self.forget()
        if sent.path.mode != "home":
            self.usage.use(UseNothing())
        self._out.event("deregistered", mode=sent.path.mode, **_proof(sent, reply))

    def _refused(self, sent: Sent, reply: RegistrationReply, now: float) -> bool:
        """§3.6.2.3: repair what can be repaired, and ask again, ever less often.

        Returns whether another home agent is asked.
        """
        code = reply.code
        self._counters[f"denied-{code}"] += 1
        delay = self._requester.refused(sent, reply)
        if delay:
            self._out.event("registration-failed", reason=describe(code), code=code)
        self.path = asking_for_less(sent, reply) or self.path
        if code == Code.HA_TOO_MANY_BINDINGS:
            self.former.refused = True
        self._timers.set("request", max(self._requester.repetition.earliest(now), now + delay))
        another = self._requester.home_agents.refused(reply)
        if another:
            self._ask_another(describe(code))
        return another

    def _ask_another(self, why: str) -> None:
        """The home agent is another from now on."""
        self._requester.begin()
        self._out.event("home-agent", home_agent=str(self._requester.home_agent), reason=why)


def _proof(sent: Sent, reply: RegistrationReply) -> dict[str, str | float | bool]:
    """When and where a request went that has shown something, and whether the answer says it is inside."""
    return {
        "interface": sent.path.interface,
        "trusted": is_trusted(reply.extensions),
        "requested": round(sent.at, 6),
    }
