"""What is simulated: how many mobile nodes, how they attach and move, and what the network does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import expm1
from random import Random
from typing import Literal

LOCAL = 0.001
"""Seconds that a message takes on one link, or within the Intranet."""


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same, in seconds."""

    seconds: float

    def draw(self, rng: Random) -> float:
        """A value."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class Uniform:
    """Any value between two, all alike likely, in seconds."""

    least: float
    most: float

    def draw(self, rng: Random) -> float:
        """A value."""
        return rng.uniform(self.least, self.most)


@dataclass(frozen=True, slots=True)
class Exponential:
    """At least `least` seconds, and `more` on average beyond: a queue somewhere on the way."""

    least: float
    more: float

    def draw(self, rng: Random) -> float:
        """A value."""
        return self.least + rng.expovariate(1 / self.more)


Distribution = Constant | Uniform | Exponential


@dataclass(frozen=True, slots=True)
class Paths:
    """What becomes of messages on their way; `loss` is a share of 1."""

    rtt: Distribution
    """Seconds across the Internet and back."""
    loss: float = 0.0
    """Of the messages that cross the Internet, in either direction."""

    def delays(self, rng: Random, far: bool) -> Sequence[float]:
        """Half a round trip for what crosses the Internet; nothing at all where it is lost."""
        if not far:
            return (LOCAL,)
        if self.loss and rng.random() < self.loss:
            return ()
        return (self.rtt.draw(rng) / 2,)


Restarted = Literal["ha", "x-ha", "fa", "gw"]


@dataclass(frozen=True, slots=True)
class Model:
    """One simulation but for the number of its mobile nodes; all times in seconds."""

    duration: float = 3600.0
    """For how long load and state are observed."""
    attach: float = 60.0
    """Within which every mobile node attaches first, at a time of its own."""
    stay: float | None = 900.0
    """How long it stays in one network on average, exponentially distributed; None: for ever."""
    lifetime: int = 600
    """Of registrations, as mobile nodes ask for it and agents grant it."""
    paths: Paths = field(default_factory=lambda: Paths(Constant(0.04)))
    advertise: int = 60
    """Between two advertisements of an agent at most; they are valid for three times as long."""
    restarts: tuple[Restarted, ...] = ()
    """Which agents are killed when the duration is over, one after the other."""
    outage: float = 1.0
    """From an agent's death until its successor runs."""
    seed: int = 1

    def expected(self, now: float) -> float:
        """About how many registrations a mobile node has made by then, moves and renewals together.

        Of stays that are exponentially distributed a share e^(-i/s) reaches a renewal after i seconds, and
        as large a share of these the next; s is the mean.
        """
        interval = 0.9 * self.lifetime
        rate = 1 / interval if self.stay is None else -1 / (self.stay * expm1(-interval / self.stay))
        if now >= self.attach:
            return 1.0 + rate * (now - self.attach / 2)
        return (1.0 + rate * now / 2) * now / self.attach
