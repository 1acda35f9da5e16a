"""The values of a simulation's options, in the words of topology files: durations with units, percentages."""

from __future__ import annotations

from testbed.document.values import Expected, parse_delay, parse_duration, parse_percent
from testbed.simulate.model import Constant, Distribution, Exponential, Uniform
from testbed.simulate.solutions import SOLUTIONS, Solution

MOST_NODES = 4_000_000
"""For so many there are addresses."""


def parse_seconds(value: str) -> float:
    """A duration, in seconds. Raises Expected."""
    return parse_duration(0 if value == "0" else value) / 1000


def parse_whole_seconds(value: str) -> int:
    """A lifetime or an interval: 1 s to 65534 s, in whole seconds (RFC 5944 §3.3). Raises Expected."""
    seconds = parse_seconds(value)
    if seconds != int(seconds) or not 1 <= seconds <= 65534:
        raise Expected("whole seconds, 1s to 65534s")
    return int(seconds)


def parse_stay(value: str) -> float | None:
    """How long a mobile node stays on average, in seconds; `ever` is None. Raises Expected."""
    if value == "ever":
        return None
    if not (seconds := parse_seconds(value)):
        raise Expected("a duration above zero, or ever")
    return seconds


def parse_rtt(value: str) -> Distribution:
    """A round-trip time: `40ms`, evenly `20ms..200ms`, or exponentially `20ms+30ms`. Raises Expected."""
    for sign, kind in (("..", Uniform), ("+", Exponential)):
        first, found, second = value.partition(sign)
        if found:
            ends = parse_delay(first) / 1000, parse_delay(second) / 1000
            if kind is Uniform and ends[0] > ends[1]:
                raise Expected("the lower of two round-trip times first")
            if kind is Exponential and not ends[1]:
                raise Expected("a mean above zero after +")
            return kind(*ends)
    return Constant(parse_delay(value) / 1000)


def parse_loss(value: str) -> float:
    """A share of messages, of 1. Raises Expected."""
    return parse_percent(0 if value == "0" else value) / 100


def parse_sizes(value: str) -> list[int]:
    """Numbers of mobile nodes, ascending. Raises Expected."""
    words = [word.strip() for word in value.split(",")]
    if not all(word.isascii() and word.isdigit() and 1 <= int(word) <= MOST_NODES for word in words):
        raise Expected(f"whole numbers from 1 to {MOST_NODES:,} with commas between", "for example 1,10,100")
    return sorted({int(word) for word in words})


def parse_solution(name: str) -> Solution:
    """The solution of a name. Raises Expected."""
    if name not in SOLUTIONS:
        raise Expected(f"one of {', '.join(SOLUTIONS)}", "no other can be simulated")
    return SOLUTIONS[name]
