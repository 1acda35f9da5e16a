"""Walking a mobile node about by a schedule: a trace that somebody recorded, or moves at random from a seed.

The times are those of the schedule from its beginning on: a move that takes long makes the next one late, and
not all that follow.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from typing import Any, Final

from testbed.agreed import SETTLED
from testbed.engine.api import Engine
from testbed.errors import Source, TestbedError, UsageError, did_you_mean, raise_errors
from testbed.lab.move import move
from testbed.lab.state import ActualLab

LATE: Final = 0.1
"""Seconds from which on a move counts as late."""
_FORM: Final = "each line has seconds and a network: 12.5,hotel"
_HEADER: Final = ["seconds", "network"]
_MOST: Final = 1 << 20  # bytes of a trace


@dataclass(frozen=True, slots=True)
class Step:
    """A move that is due `at` seconds after the beginning."""

    at: float
    network: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A move that was made: `began` in seconds after the beginning, and its last event."""

    step: Step
    began: float
    settled: dict[str, Any]

    @property
    def late(self) -> float:
        """By how many seconds it began too late."""
        return max(0.0, self.began - self.step.at)


def read_trace(path: Path, networks: Collection[str]) -> list[Step]:
    """Read a trace: CSV with seconds from the beginning on and a network; it may have a header and `#` lines.

    Raises an error for each mistake, with its line and column: no number, a time before the one above, a
    network that is none of these.
    """
    try:
        data = path.read_bytes()
        text = data.decode()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError("not a text in UTF-8", hint=_FORM, source=Source(str(path))) from error
    if len(data) > _MOST:
        raise UsageError("a trace of more than 1 MiB", source=Source(str(path)))
    steps: list[Step] = []
    errors: list[TestbedError] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = [word.strip() for word in line.split(",")]
        if not line.strip() or line.lstrip().startswith("#") or (not steps and words == _HEADER):
            continue
        try:
            last = steps[-1].at if steps else 0.0
            steps.append(_read_line(line, networks, last))
        except _Mistake as mistake:
            source = Source(str(path), number, mistake.column)
            errors.append(UsageError(mistake.message, hint=mistake.hint, source=source))
    raise_errors(errors)
    if not steps:
        raise UsageError("no move", hint=_FORM, source=Source(str(path)))
    return steps


class _Mistake(Exception):
    def __init__(self, message: str, column: int, hint: str | None = _FORM) -> None:
        self.message, self.column, self.hint = message, column, hint


def _read_line(line: str, networks: Collection[str], last: float) -> Step:
    seconds, comma, rest = line.partition(",")
    network, further, _ = rest.partition(",")
    first = 1 + len(seconds) - len(seconds.lstrip())
    second = len(seconds) + 2 + len(network) - len(network.lstrip())
    if not comma:
        raise _Mistake("expected a comma and a network", len(line.rstrip()) + 1)
    if further:
        raise _Mistake("expected the end of the line behind the network", len(seconds) + len(network) + 2)
    try:
        at = float(seconds)
    except ValueError:
        raise _Mistake(f"expected seconds, got {seconds.strip()!r}", first) from None
    if not math.isfinite(at) or at < 0:
        raise _Mistake(f"expected seconds from the beginning on, got {seconds.strip()}", first)
    if at < last:
        raise _Mistake(
            f"{seconds.strip()} s is before the move above, at {last:g} s", first, "sort the lines"
        )
    if network.strip() not in networks:
        hint = did_you_mean(network.strip(), networks)
        raise _Mistake(f"the mobile node has no network {network.strip()!r} to attach to", second, hint)
    return Step(at, network.strip())


def random_steps(
    networks: Sequence[str], seed: int, every: float, count: int | None = None
) -> Iterator[Step]:
    """A move every so many seconds to any network but that of the move before; the same for the same seed."""
    chance, last = random.Random(seed), ""
    for number in numbers() if count is None else range(count):
        last = chance.choice([one for one in networks if one != last] or list(networks))
        yield Step(number * every, last)


def walk(
    engine: Engine,
    lab: ActualLab,
    node: str,
    steps: Iterable[Step],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    due: Callable[[Step], None] = lambda step: None,
) -> Generator[Moved]:
    """Make the moves, each when it is due or, where the one before took longer, as soon as that has ended.

    `due` is called as each begins. Raises as `move`.
    """
    began = clock()
    for step in steps:
        if (left := began + step.at - clock()) > 0:
            sleep(left)
        due(step)
        now = clock() - began
        with closing(move(engine, lab, node, step.network)) as events:
            for event in events:
                if event["event"] == SETTLED:
                    yield Moved(step, now, event)
