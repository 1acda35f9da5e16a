"""The home agent (RFC 5944 §3.8)."""

from __future__ import annotations

from collections import Counter
from functools import partial
from ipaddress import IPv4Address
from itertools import islice
from random import Random, SystemRandom

from testbed.mobileip.core.advertiser import Advertiser
from testbed.mobileip.core.api import (
    AgentMessage,
    Clock,
    Datagram,
    Effect,
    Records,
)
from testbed.mobileip.core.association import Associations
from testbed.mobileip.core.counters import HOME_AGENT
from testbed.mobileip.core.discards import Discards
from testbed.mobileip.core.disposition import Discard
from testbed.mobileip.core.home.addresses import HomeAddresses
from testbed.mobileip.core.home.advertisement import home_agent_advertisement
from testbed.mobileip.core.home.bindings import BindingTable
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.home.grants import Grants
from testbed.mobileip.core.home.multicast import HomeMulticast
from testbed.mobileip.core.home.queue import RequestQueue
from testbed.mobileip.core.home.requests import Requests
from testbed.mobileip.core.home.revocation import HomeRevocation
from testbed.mobileip.core.home.udp_tunnel import take_keepalive
from testbed.mobileip.core.outbox import Outbox
from testbed.mobileip.core.replay import ReplayGuard
from testbed.mobileip.wire import registration_request, revocation, udp_tunnel
from testbed.mobileip.wire.error import WireError

LISTED = 256
"""Mobile nodes whose bindings `state` lists."""
_REQUEST = bytes((registration_request.TYPE,))


class HomeAgent:
    """Keeps bindings by registration requests; asks its shell for tunnels and ARP.

    Raises ValueError for a configuration with two associations of one peer and SPI.
    """

    def __init__(self, config: HomeAgentConfig, clock: Clock, rng: Random | None = None) -> None:
        self.config = config
        self.counters = Counter(dict.fromkeys(HOME_AGENT, 0))
        self._out = Outbox()
        self.refused = self._out.withdraw
        self._discards = Discards(self._out, self.counters)
        associations = Associations(config.mobile_nodes), Associations(config.foreign_agents)
        self._queue = RequestQueue(config.replay_tolerance, clock, self.counters)
        self._bindings = BindingTable()
        self._homes = HomeAddresses(config, associations[0], self._bindings)
        rng = rng or SystemRandom()
        replay = ReplayGuard(config.replay_tolerance, rng)
        self._multicast = HomeMulticast(config, self._bindings, self._out, self.counters)
        self.receive_broadcast = self._multicast.heard
        table = self._bindings, self._homes
        effects = self._out, self.counters
        self._grants = Grants(config, clock, *table, replay, self._multicast, *effects)
        self._revocation = HomeRevocation(
            config, clock, self._bindings, associations, self._homes.owner, *effects, self._grants.moved
        )
        self._requests = Requests(
            config, clock, associations, *table, replay, self._grants, self._revocation, *effects
        )
        self.revoke = self._revocation.revoke
        self._advertiser: Advertiser | None = None
        if config.advertising is not None and config.home_interface is not None:
            self._advertiser = Advertiser(
                config.home_interface,
                config.advertised_address or config.address,
                config.advertising,
                partial(home_agent_advertisement, config),
                self.counters,
                self._discards,
                rng,
            )

    @property
    def waiting(self) -> int:
        """Requests that wait for `serve`."""
        return len(self._queue)

    def enqueue(self, datagram: Datagram, arrived: float) -> None:
        """Take a UDP datagram that arrived at port 434; a registration request waits for `serve`."""
        if datagram.payload[:1] == _REQUEST:
            self._queue.put(datagram, arrived)
        else:
            self.receive(datagram, arrived)

    def serve(self, now: float) -> None:
        """Answer the request that has waited longest, or deny it by code 130 where too many wait."""
        if (taken := self._queue.take(now)) is not None:
            datagram, overload = taken
            self.receive(datagram, now, overload)

    def receive(self, datagram: Datagram, now: float, overload: bool = False) -> None:
        """Take a UDP datagram that arrived at port 434, and answer it at once."""
        kind = datagram.payload[0] if datagram.payload else None
        if kind == udp_tunnel.DATA:
            if (node := take_keepalive(self.config.address, datagram, self._bindings, self._out)) is not None:
                self._grants.moved(node)
            return
        try:
            if kind in revocation.MESSAGES:
                self._revocation.receive(datagram)
            else:
                self.counters["requests-received"] += 1
                self._requests.receive(datagram, now, overload)
        except WireError as error:
            self._discards.datagram(error.reason, datagram, now)
        except Discard as discard:
            self._discards.datagram(str(discard), datagram, now)

    def receive_agent_message(self, message: AgentMessage, now: float) -> None:
        """Answer a solicitation on the home link; anything else is no business of a home agent."""
        if self._advertiser is None or message.payload[:1] != b"\x0a":
            self.counters["agent-messages-ignored"] += 1
            return
        self._out.add(*self._advertiser.receive(message, now))

    def receive_tunnelled(self, datagram: bytes, now: float) -> None:
        """Take what a mobile node has tunnelled to everybody or to a group (§4.4, RFC 3024 §5.3)."""
        if (home_address := self._multicast.tunnelled(datagram, now)) is not None:
            self._grants.remember(self._homes.owner(home_address))

    def tick(self, now: float) -> None:
        """Expire bindings, repeat gratuitous ARPs, advertise."""
        self._grants.expire(now)
        for home_address in self._multicast.tick(now):
            self._grants.remember(self._homes.owner(home_address))
        self._revocation.tick(now)
        self._grants.arps.tick(now)
        if self._advertiser is not None:
            self._out.add(*self._advertiser.tick(now))

    def deadline(self) -> float | None:
        """The next `now` at which `tick` has something to do; None when only input can change anything."""
        due = [self._bindings.next_expiry(), self._grants.arps.next(), self._multicast.deadline()]
        due.append(self._revocation.deadline())
        if self._advertiser is not None:
            due.append(self._advertiser.due)
        return min((when for when in due if when is not None), default=None)

    def effects(self) -> list[Effect]:
        """Drain the effects since the last call, in order."""
        return self._out.drain()

    def state(self, now: float) -> dict[str, object]:
        """A JSON-serialisable picture; a `lifetime_left` of null never ends.

        Of more than `LISTED` mobile nodes it has the first: what all take fills no control socket at once.
        """
        return {
            "role": "home-agent",
            "address": str(self.config.address),
            "home_prefix": str(self.config.home_prefix),
            "home_interface": self.config.home_interface,
            "mobile_nodes": len(self._bindings),
            "bindings": [self.picture(home_address, now) for home_address in islice(self._bindings, LISTED)],
            "groups": self._multicast.picture(),
            "counters": dict(sorted(self.counters.items())),
        }

    def picture(self, home_address: IPv4Address, now: float) -> dict[str, object]:
        """What `state` has of one mobile node; without bindings where it has none."""
        return {**self._bindings.picture(home_address, now), "nai": self._homes.nai(home_address)}

    def restore(self, records: Records, now: float) -> None:
        """Take up what a predecessor asked to remember: what it accepted last, and the bindings that hold.

        Raises ValueError, KeyError or TypeError for records that no home agent has made.
        """
        self._grants.restore(records, now)

    def flush(self) -> None:
        """Forget every binding, without a message to anybody."""
        self._grants.flush()
        self._revocation.clear()
