"""The VPN gateway, as far as messages and state go: IKE is not simulated; ike.toml has what it costs."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from testbed.simulate.counted import CountedNetwork, Tally


@dataclass(frozen=True, slots=True)
class IkeCosts:
    """What ike.toml says, where each number has its source."""

    exchanges: int
    octets: tuple[int, ...]
    """Of the messages of a negotiation, in their order."""
    timeout: float
    base: float
    limit: float
    tries: int
    dead_peer_detection: float
    kept_dead_peer_detection: float

    def until_resent(self, number: int) -> float:
        """Seconds after a request was sent for the time `number` until it is sent again, or given up."""
        return float(min(self.timeout * self.base**number, self.limit))

    @property
    def patience(self) -> float:
        """Seconds in which a request is sent in vain."""
        return sum(map(self.until_resent, range(self.tries + 1)))


@cache
def ike_costs() -> IkeCosts:
    """The content of ike.toml."""
    read: dict[str, Any] = tomllib.loads(Path(__file__).with_name("ike.toml").read_text(encoding="utf-8"))
    return IkeCosts(
        read["exchanges"],
        tuple(read["octets"]),
        **read["retransmit"],
        dead_peer_detection=read["dead-peer-detection"],
        kept_dead_peer_detection=read["kept-dead-peer-detection"],
    )


class Gateway:
    """Negotiates, and has a security association with each mobile node that has not lost it."""

    def __init__(self, network: CountedNetwork, outer: bool) -> None:
        """`outer`: all comes by way of a home agent outside, and crosses the Internet twice."""
        self.tally = Tally()
        self.associations: set[int] = set()
        """The numbers of the mobile nodes with an IKE SA."""
        self._network = network
        self._crossings = 2 if outer else 1
        self._costs = costs = ike_costs()
        self._liveness = costs.kept_dead_peer_detection if outer else costs.dead_peer_detection
        self._attempts: dict[int, int] = {}

    def negotiate(self, number: int, done: Callable[[], None]) -> None:
        """Make an IKE SA with a mobile node, in the place of any before; `done` is called when it has it."""
        attempt = self._attempts[number] = self._attempts.get(number, 0) + 1
        self._exchange(number, attempt, 0, 0, done)

    def found_dead(self) -> float:
        """Seconds in which a mobile node finds out, at a time of its own, that nobody answers its IKE SA."""
        return self._network.rng.uniform(0.0, self._liveness) + self._costs.patience

    def abandon(self, number: int) -> None:
        """The mobile node is gone from where it negotiated; its IKE SA stays here until it comes again."""
        self._attempts.pop(number, None)

    def restart(self) -> list[int]:
        """Lose all security associations; returns whose they were."""
        lost = sorted(self.associations)
        self.associations.clear()
        return lost

    def _exchange(self, number: int, attempt: int, step: int, tries: int, done: Callable[[], None]) -> None:
        """Send the request of a step, and again until its response has come (RFC 7296 §2.1)."""
        if self._attempts.get(number) != attempt or tries > self._costs.tries:
            return
        network = self._network
        again = partial(self._exchange, number, attempt, step, tries + 1, done)
        there = self._carry(2 * step)
        back = None if there is None else self._carry(2 * step + 1)
        if there is None or back is None:
            network.at(network.now + self._costs.until_resent(tries), again)
        else:
            network.at(network.now + there + back, partial(self._answered, number, attempt, step, done))

    def _carry(self, message: int) -> float | None:
        """Count a message; seconds until it arrives, None where it is lost."""
        network, octets, delay = self._network, self._costs.octets[message], 0.0
        network.internet.add(octets)
        response = message % 2 == 1
        if response:
            self.tally.add(octets)
        for _ in range(self._crossings):
            arrivals = network.weather.delays(network.rng, True)
            if not arrivals:
                return None
            delay += arrivals[0]
        if not response:
            self.tally.add(octets)
        return delay

    def _answered(self, number: int, attempt: int, step: int, done: Callable[[], None]) -> None:
        if self._attempts.get(number) != attempt:
            return
        if step + 1 < self._costs.exchanges:
            self._exchange(number, attempt, step + 1, 0, done)
            return
        del self._attempts[number]
        self.associations.add(number)
        done()
