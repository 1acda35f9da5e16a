"""Schedules of moves: a trace that somebody recorded, or moves at random from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from typing import Final, TypeVar

from testbed.document.values import AddressRange, Expected, PartOfCrowd, parse_duration, parse_part
from testbed.errors import Source, TestbedError, UsageError, did_you_mean, raise_errors

_Value = TypeVar("_Value")
_FORM: Final = "each line has seconds and a network: 12.5,hotel"
_HEADER: Final = ["seconds", "network", "part", "within"]
_MOST: Final = 1 << 20  # bytes of a trace


@dataclass(frozen=True, slots=True)
class Step:
    """A move that is due `at` seconds after the beginning."""

    at: float
    network: str
    part: PartOfCrowd | None = None
    """Which nodes of a crowd; None is all."""
    within: float = 0.0
    """Seconds in which these nodes move, one after the other."""


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a line, without the spaces around it, and the column where it begins."""

    text: str
    column: int


class _Mistake(Exception):
    def __init__(self, message: str, column: int, hint: str | None = _FORM) -> None:
        self.message, self.column, self.hint = message, column, hint


def read_trace(path: Path, networks: Collection[str], homes: AddressRange | None = None) -> list[Step]:
    """Read a trace: CSV with seconds from the beginning on and a network; it may have a header and `#` lines.

    With the `homes` of a crowd a line may go on with the part that moves, and with the time that this takes.
    Raises an error for each mistake, with its line and column: no number, a time before the one above, a
    network that is none of these, home addresses that are none of the crowd's.
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
        header = len(words) >= 2 and words == _HEADER[: len(words)]
        if not line.strip() or line.lstrip().startswith("#") or (not steps and header):
            continue
        try:
            last = steps[-1].at if steps else 0.0
            steps.append(_read_line(line, networks, homes, last))
        except _Mistake as mistake:
            source = Source(str(path), number, mistake.column)
            errors.append(UsageError(mistake.message, hint=mistake.hint, source=source))
    raise_errors(errors)
    if not steps:
        raise UsageError("no move", hint=_FORM, source=Source(str(path)))
    return steps


def _fields(line: str) -> Iterator[_Field]:
    column = 1
    for text in line.split(","):
        yield _Field(text.strip(), column + len(text) - len(text.lstrip()))
        column += len(text) + 1


def _read_line(line: str, networks: Collection[str], homes: AddressRange | None, last: float) -> Step:
    seconds, *fields = _fields(line)
    if not fields:
        raise _Mistake("expected a comma and a network", len(line.rstrip()) + 1)
    network, *of_crowd = fields
    if len(of_crowd) > (2 if homes is not None else 0):
        behind = "the time that the move takes" if homes is not None else "the network"
        raise _Mistake(f"expected the end of the line behind {behind}", of_crowd[-1].column - 1)
    at = _read_seconds(seconds, last)
    if network.text not in networks:
        hint = did_you_mean(network.text, networks)
        raise _Mistake(f"the mobile node has no network {network.text!r} to attach to", network.column, hint)
    part = _read_part(of_crowd[0], homes) if of_crowd and homes is not None else None
    within = _parsed(of_crowd[1], parse_duration) / 1000 if len(of_crowd) > 1 else 0.0
    return Step(at, network.text, part, within)


def _read_seconds(field: _Field, last: float) -> float:
    try:
        at = float(field.text)
    except ValueError:
        raise _Mistake(f"expected seconds, got {field.text!r}", field.column) from None
    if not math.isfinite(at) or at < 0:
        raise _Mistake(f"expected seconds from the beginning on, got {field.text}", field.column)
    if at < last:
        raise _Mistake(
            f"{field.text} s is before the move above, at {last:g} s", field.column, "sort the lines"
        )
    return at


def _read_part(field: _Field, homes: AddressRange) -> PartOfCrowd | None:
    """Which nodes of the crowd move; all where nothing is written."""
    if not field.text:
        return None
    part = _parsed(field, parse_part)
    if part.homes is not None and not (part.homes.first in homes and part.homes.last in homes):
        hint = f"its home addresses: {homes}"
        raise _Mistake(f"the crowd does not have all of {field.text}", field.column, hint)
    return part


def _parsed(field: _Field, parse: Callable[[str], _Value]) -> _Value:
    try:
        return parse(field.text)
    except Expected as error:
        raise _Mistake(f"expected {error.expected}, got {field.text!r}", field.column, error.hint) from error


def random_steps(
    networks: Sequence[str], seed: int, every: float, count: int | None = None
) -> Iterator[Step]:
    """A move every so many seconds to any network but that of the move before; the same for the same seed."""
    chance, last = random.Random(seed), ""
    for number in numbers() if count is None else range(count):
        last = chance.choice([one for one in networks if one != last] or list(networks))
        yield Step(number * every, last)
