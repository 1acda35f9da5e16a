"""One mobile node's requests to its home agent: sending, repeating, matching replies (RFC 5944 §3.6)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from random import Random

from testbed.mobileip.core.api import Clock, Datagram
from testbed.mobileip.core.association import Associations, AuthenticationError, sign
from testbed.mobileip.core.delivery import Delivery
from testbed.mobileip.core.discards import Discards
from testbed.mobileip.core.encapsulations import NUMBERS, agreed, request_bits
from testbed.mobileip.core.mobile.agents import Agent
from testbed.mobileip.core.mobile.config import MobileNodeConfig, UdpTunnel
from testbed.mobileip.core.mobile.home_address import HomeAddress
from testbed.mobileip.core.mobile.home_agents import HomeAgents
from testbed.mobileip.core.mobile.responses import Responses
from testbed.mobileip.core.mobile.revocation import NodeRevocation
from testbed.mobileip.core.parameters import ALTERNATIVES, INFINITE_LIFETIME
from testbed.mobileip.core.replay import Identifier, identifier
from testbed.mobileip.core.udp_tunnel import answered
from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.authentication import MOBILE_FOREIGN, MOBILE_HOME, in_order
from testbed.mobileip.wire.challenge import error_status, offered
from testbed.mobileip.wire.code import Code, from_foreign_agent
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import ENCAPSULATING_DELIVERY, Extension
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.udp_tunnel import UdpTunnelRequest

MINIMUM_INTERVAL = 1.0
"""Seconds between two requests at least (§3.6.3); also the first time-out, until the round trip is known."""
HELD_BACK = 3.0
"""Seconds a request may wait for its next hop before it is taken for lost: three ARP requests long."""
MAXIMUM_INTERVAL = 60.0
"""Time-outs double up to this, or to the lifetime asked for if that is shorter."""

CHALLENGED = (Code.FA_UNKNOWN_CHALLENGE, Code.FA_MISSING_CHALLENGE, Code.FA_STALE_CHALLENGE)
"""Another challenge helps, which is in the reply or has to be asked for (RFC 4721 §3.5)."""
_REPAIRABLE = frozenset(
    (
        Code.HA_IDENTIFICATION_MISMATCH,
        Code.HA_UNKNOWN_HOME_AGENT,
        Code.FA_LIFETIME_TOO_LONG,
        *CHALLENGED,
    )
)
_ENCAPSULATION_UNAVAILABLE = frozenset(
    (
        Code.FA_ENCAPSULATION_UNAVAILABLE,
        Code.HA_ENCAPSULATION_UNAVAILABLE,
        Code.HA_UDP_ENCAPSULATION_UNAVAILABLE,
    )
)


@dataclass(frozen=True, slots=True)
class Path:
    """How requests go and what they register: decided by where the mobile node is attached."""

    mode: str
    """co-located, foreign-agent or home."""
    interface: str
    source: IPv4Address = field(compare=False)
    """Of requests with a co-located care-of address; of all others the home address, once it is known."""
    care_of_address: IPv4Address
    agent: IPv4Address | None = None
    """The foreign agent that relays; None: directly to the home agent."""
    agent_link_address: bytes | None = None
    lifetime_limit: int = INFINITE_LIFETIME
    """What the agent accepts."""
    encapsulations: tuple[Encapsulation, ...] = field(default=ALTERNATIVES, compare=False)
    """What may be asked for beside IP in IP: what the agent offers, and nobody has refused."""
    agent_behind_nat: bool = False
    """The U bit of its advertisements (RFC 3519 §3.4)."""
    encapsulating: bool = field(default=False, compare=False)
    """Whether the Encapsulating Delivery Style is asked for (RFC 3024 §3.3): nobody has refused it."""
    local: tuple[IPv4Network, ...] = field(default=(), compare=False)
    """The prefixes of the visited link, as far as the agent advertises them."""

    @classmethod
    def through(
        cls, interface: str, home_address: IPv4Address, agent: Agent, index: int, delivery: Delivery
    ) -> Path:
        """With a care-of address of a foreign agent, chosen by `index`."""
        addresses = agent.mobility.care_of_addresses
        return cls(
            "foreign-agent",
            interface,
            home_address,
            addresses[index % len(addresses)],
            agent.address,
            agent.link_address,
            agent.mobility.registration_lifetime,
            agent.encapsulations,
            encapsulating=delivery is Delivery.ENCAPSULATING,
            local=tuple(sorted(agent.prefixes)),
        )


@dataclass(frozen=True, slots=True)
class Sent:
    """The most recent request: what a reply must match (§3.6)."""

    path: Path
    low_identification: int
    lifetime: int
    """As asked for; 0 in a deregistration."""
    at: float
    flags: int
    udp_tunnel: int
    """The encapsulation asked for in UDP (RFC 3519 §3.1.4); 0: no tunnel in UDP is."""
    home_address: IPv4Address
    """As the request had it: zero, if it was not known (RFC 2794)."""
    drop: Path | None = None
    """Whose care-of address alone is given back; None: the request is about `path`."""

    @property
    def alternative(self) -> bool:
        """Whether another encapsulation than IP in IP was asked for."""
        return agreed(self.flags) != agreed(0)

    @property
    def encapsulating(self) -> bool:
        """Whether the Encapsulating Delivery Style was asked for."""
        return self.path.encapsulating and bool(self.flags & RequestFlag.REVERSE_TUNNEL)


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
    ) -> None:
        self.revocation = revocation
        self.home = home
        self.home_agents = HomeAgents(config)
        self.sent: Sent | None = None
        """The request that awaits its reply."""
        self.unanswered = 0
        """Requests since the last reply or `begin`."""
        self._config = config
        self._clock = clock
        self._counters = counters
        self._discards = discards
        self._identifiers = {
            association.peer: identifier(association.replay, rng)
            for association in (config.security, *config.other_home_agents)
        }
        self._unanswered: RegistrationRequest | None = None
        self._home = Associations((config.security, *config.other_home_agents))
        self._agents = Associations(config.foreign_agents)
        self.responses = Responses(self._agents, config.aaa)
        self._last_sent: float | None = None
        self._interval = MINIMUM_INTERVAL
        self._first_timeout = self._timeout = MINIMUM_INTERVAL
        self._failures = 0

    @property
    def home_agent(self) -> IPv4Address:
        """The home agent to register with."""
        return self.home_agents.current

    @property
    def _identifier(self) -> Identifier:
        """Makes the identifications for the current home agent."""
        return self._identifiers[self.home_agents.security.peer]

    @property
    def clock_offset(self) -> float:
        """Seconds by which the home agent's clock is ahead, by its replies with code 133."""
        return self._identifier.offset

    def begin(self) -> None:
        """There is something new to ask: forget what went wrong before, and what was asked before."""
        self.sent = None
        self.unanswered = self._failures = 0
        self._timeout = self._first_timeout

    def moved(self) -> None:
        """The link layer reports a move: the next request may be sent at once, its round trip is unknown."""
        self._last_sent = None
        self._first_timeout = MINIMUM_INTERVAL

    def earliest(self, now: float) -> float:
        """When the next request may be sent; without a move not within a second of the last (§3.6.3)."""
        return now if self._last_sent is None else max(now, self._last_sent + MINIMUM_INTERVAL)

    def departed(self, now: float) -> float | None:
        """The last request left this node at `now`, and the link may have made it wait until then.

        Returns when to send the next if no reply comes; None when no request since a move has been sent.
        """
        if self._last_sent is None:
            return None
        self._last_sent = max(self._last_sent, now)
        return self._last_sent + self._interval

    def held_back(self) -> float | None:
        """The last request waits for its next hop: another would leave together with it.

        Returns when to send the next all the same; None as for `departed`.
        """
        return None if self._last_sent is None else self._last_sent + max(HELD_BACK, self._interval)

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
        self._last_sent = now
        self.unanswered += 1
        self._counters["requests-sent"] += 1
        self._interval = self._timeout
        repeat = now + self._interval
        limit = float(min(MAXIMUM_INTERVAL, lifetime) if lifetime else MAXIMUM_INTERVAL)
        self._timeout = max(MINIMUM_INTERVAL, min(self._timeout * 2, limit))
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
        return datagram, repeat

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
        self.unanswered = 0
        # "at least an additional 100 milliseconds" above twice the round trip (§3.6.3)
        round_trip = now - sent.at  # with nonces, since it was first sent
        self._first_timeout = max(MINIMUM_INTERVAL, min(2 * round_trip + 0.1, MAXIMUM_INTERVAL))
        self._timeout = self._first_timeout
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
        if failures == 0 and (reply.code in _REPAIRABLE or asking_for_less(sent, reply) is not None):
            return 0.0
        return min(2.0 ** min(failures, 16), MAXIMUM_INTERVAL)


def _content(request: RegistrationRequest) -> tuple[RegistrationRequest, list[int]]:
    """What is asked for; the timestamp of an extension does not matter."""
    return replace(request, identification=0, extensions=()), [each.type for each in request.extensions]


def asking_for_less(sent: Sent, reply: RegistrationReply) -> Path | None:
    """The way of a request with which what `reply` refuses is not asked for any more (RFC 3024 §4.1.2).

    None where a refusal is not about that.
    """
    if reply.code == Code.FA_LIFETIME_TOO_LONG and 0 < reply.lifetime < sent.lifetime:
        return replace(sent.path, lifetime_limit=reply.lifetime)
    if sent.alternative and reply.code in _ENCAPSULATION_UNAVAILABLE:
        return replace(sent.path, encapsulations=())
    if sent.encapsulating and reply.code == Code.FA_DELIVERY_STYLE_NOT_SUPPORTED:
        return replace(sent.path, encapsulating=False)
    return None
