"""One mobile node's requests to its home agent: sending, repeating, matching replies (RFC 5944 §3.6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random

from testbed.mobileip.core.api import Clock, Datagram
from testbed.mobileip.core.association import Associations, AuthenticationError, sign
from testbed.mobileip.core.discards import Discards
from testbed.mobileip.core.encapsulations import NUMBERS, agreed, request_bits
from testbed.mobileip.core.mobile.config import MobileNodeConfig, UdpTunnel
from testbed.mobileip.core.mobile.home_address import HomeAddress
from testbed.mobileip.core.mobile.home_agents import HomeAgents
from testbed.mobileip.core.mobile.path import Path, Sent
from testbed.mobileip.core.mobile.refusals import repairable
from testbed.mobileip.core.mobile.repetition import MAXIMUM_INTERVAL, Repetition
from testbed.mobileip.core.mobile.responses import Responses
from testbed.mobileip.core.mobile.revocation import NodeRevocation
from testbed.mobileip.core.replay import Identifier, identifier
from testbed.mobileip.core.security import Peer
from testbed.mobileip.core.udp_tunnel import answered
from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.authentication import MOBILE_FOREIGN, MOBILE_HOME, in_order
from testbed.mobileip.wire.challenge import error_status, offered
from testbed.mobileip.wire.code import Code, from_foreign_agent
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import ENCAPSULATING_DELIVERY, Extension
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.udp_tunnel import UdpTunnelRequest


class _NoMatch(Exception):
    """A reply that answers nothing; the argument is the counter's name."""


class Requester:
    """Makes requests, says when to repeat them, authenticates replies; what to ask is decided elsewhere."""

    def __init__(
        self,
        config: MobileNodeConfig,
        home: HomeAddress,
        clock: Clock,
        counters: Counter[str],
        discards: Discards,
        rng: Random,
        revocation: NodeRevocation,
        identifiers: Mapping[Peer, Identifier] | None = None,
    ) -> None:
        """`identifiers` are those of another requester, beside which this one asks the same home agents."""
        self.revocation = revocation
        self.home = home
        self.home_agents = HomeAgents(config)
        self.sent: Sent | None = None
        """The request that awaits its reply."""
        self.repetition = Repetition(rng)
        self._config = config
        self._clock = clock
        self._counters = counters
        self._discards = discards
        self.identifiers = identifiers or {
            association.peer: identifier(association.replay, rng)
            for association in (config.security, *config.other_home_agents)
        }
        """What makes the identifications for each home agent."""
        self._unanswered: RegistrationRequest | None = None
        self._home = Associations((config.security, *config.other_home_agents))
        self._agents = Associations(config.foreign_agents)
        self.responses = Responses(self._agents, config.aaa)
        self._failures = 0

    @property
    def home_agent(self) -> IPv4Address:
        """The home agent to register with."""
        return self.home_agents.current

    @property
    def _identifier(self) -> Identifier:
        """Makes the identifications for the current home agent."""
        return self.identifiers[self.home_agents.security.peer]

    @property
    def clock_offset(self) -> float:
        """Seconds by which the home agent's clock is ahead, by its replies with code 133."""
        return self._identifier.offset

    def begin(self) -> None:
        """There is something new to ask: forget what went wrong before, and what was asked before."""
        self.sent = None
        self._failures = 0
        self.repetition.begin()

    def request(
        self, path: Path, deregister: bool, now: float, *, beside: bool = False, drop: Path | None = None
    ) -> tuple[Datagram, float]:
        """A request for `path`, and when to send the next if no reply comes.

        It has a new identification and replaces the request that awaited a reply; with nonces an unanswered
        request that asked for the same is sent again (§3.6.3). `deregister` gives back all care-of addresses,
        `drop` that of another path; what is granted `beside` others leaves these.
        """
        config = self._config
        care_of = self.home.address if deregister else (drop or path).care_of_address
        deregister = deregister or drop is not None
        lifetime = 0 if deregister else min(config.lifetime, path.lifetime_limit)
        flags = RequestFlag.SIMULTANEOUS if beside else RequestFlag(0)
        if (drop or path).mode == "co-located":
            flags |= RequestFlag.DECAPSULATION
        if config.broadcasts and not deregister:
            flags |= RequestFlag.BROADCAST
        udp_tunnel = not deregister and self._wants_udp_tunnel(path)
        if (config.reverse_tunnel and not deregister) or udp_tunnel:  # RFC 3519 §3.1.5
            flags |= RequestFlag.REVERSE_TUNNEL
        if config.encapsulation in path.encapsulations and not deregister:
            flags |= request_bits(config.encapsulation)
        direct = path.mode == "co-located" and path.agent is None and not deregister
        revocation = self.revocation.ask(direct, now)
        in_udp = NUMBERS[agreed(flags)[0]] if udp_tunnel else 0
        tunnel = UdpTunnelRequest(config.udp_tunnel is UdpTunnel.FORCED, path.agent is not None, in_udp)
        request = RegistrationRequest(
            int(flags),
            lifetime,
            self.home.address,
            self.home_agent,
            care_of,
            0,
            (*self.home.extensions, *((tunnel.encode(),) if udp_tunnel else ()), *revocation),
        )
        request, at = self._identified(request, now)
        payload = sign(request.encode(), MOBILE_HOME, self.home_agents.security)
        low, asked = request.low_identification, request.home_address
        sent = Sent(path, low, lifetime, at, int(flags), in_udp, asked, drop)
        if sent.encapsulating:  # RFC 3024 §3.3: for the foreign agent, and so covered by its extension alone
            payload += Extension(ENCAPSULATING_DELIVERY).encode()
        payload = self.responses.sign(payload, path.agent)
        self.sent = sent
        self._counters["requests-sent"] += 1
        datagram = Datagram(
            payload,
            path.source if path.mode == "co-located" else self.home.address,
            config.port,
            path.agent or self.home_agent,
            PORT,
            path.interface,
            255,  # RFC 3024 §3.2, whether or not a reverse tunnel is asked for
            path.agent_link_address,
        )
        return datagram, self.repetition.sent(lifetime, now)

    def _identified(self, request: RegistrationRequest, now: float) -> tuple[RegistrationRequest, float]:
        """`request` with its identification, and when it was first sent, from when its lifetime counts."""
        sent, before = self.sent, self._unanswered
        unanswered = self._identifier.repeats and sent is not None and before is not None
        if sent and before and unanswered and _content(request) == _content(before):
            return before, sent.at
        request = replace(request, identification=self._identifier.next(self._clock(now)))
        self._unanswered = request
        return request, now

    def _wants_udp_tunnel(self, path: Path) -> bool:
        """RFC 3519 §4.4: never for a foreign agent's care-of address, nor through one that knows no NAT."""
        if self._config.udp_tunnel is UdpTunnel.OFF or path.mode != "co-located":
            return False
        return path.agent is None or path.agent_behind_nat

    def match(self, datagram: Datagram, now: float) -> tuple[Sent, RegistrationReply] | None:
        """The request that `datagram` answers and the reply; None, and counted, for anything else."""
        try:
            sent, reply = self._match(datagram)
        except (WireError, AuthenticationError) as error:
            self._discards.datagram(error.reason, datagram, now)
            return None
        except _NoMatch as error:
            self._discards.datagram(str(error), datagram, now)
            return None
        if not from_foreign_agent(reply.code):
            mismatch = reply.code == Code.HA_IDENTIFICATION_MISMATCH
            self._identifier.replied(reply.identification, self._clock(now), mismatch)
            self._counters["resynchronisations"] += mismatch
        self.sent = None
        self.repetition.answered(now - sent.at)  # with nonces, since it was first sent
        # RFC 4636: what the foreign agent cannot go along with, whatever the home agent says.
        return sent, replace(reply, code=error_status(reply.extensions) or reply.code)

    def _match(self, datagram: Datagram) -> tuple[Sent, RegistrationReply]:
        """§3.6.2.1."""
        reply = RegistrationReply.decode(datagram.payload)
        sent = self.sent
        if sent is None or reply.low_identification != sent.low_identification:
            raise _NoMatch("identification")
        if (why := self.home.mismatch(sent.home_address, reply)) is not None:
            raise _NoMatch(why)
        if not in_order(reply.extensions):
            raise _NoMatch("authentication-order")
        agent = sent.path.agent
        if agent is not None and agent in self._agents:
            self._agents.authenticate(datagram.payload, reply.extensions, MOBILE_FOREIGN, agent)
        if not from_foreign_agent(reply.code):
            peer = self.home_agents.security.peer
            self._home.authenticate(datagram.payload, reply.extensions, MOBILE_HOME, peer)
        elif agent is None or datagram.source != agent:
            raise _NoMatch("not-from-agent")  # nobody but the agent asked may refuse without proof
        answered(reply, to_agent=False)
        error_status(reply.extensions)
        if agent is not None and datagram.source == agent:
            self.responses.heard(agent, offered(reply.extensions))
        return sent, reply

    def granted(self) -> None:
        """The last request was accepted."""
        self._failures = 0

    def refused(self, sent: Sent, reply: RegistrationReply) -> float:
        """Learn what a refusal reports; return the seconds until to ask again (§3.6.2.3).

        The first attempt to repair may be made as soon as `earliest` allows; whatever fails again has to
        wait, ever longer.
        """
        self.home.refused(reply.code)
        failures, self._failures = self._failures, self._failures + 1
        if failures == 0 and repairable(sent, reply):
            return 0.0
        delay = 2.0 ** min(failures, 16)
        return min(self.repetition.spread(delay) if failures else delay, MAXIMUM_INTERVAL)


def _content(request: RegistrationRequest) -> tuple[RegistrationRequest, list[int]]:
    """What is asked for; the timestamp of an extension does not matter."""
    return replace(request, identification=0, extensions=()), [each.type for each in request.extensions]
