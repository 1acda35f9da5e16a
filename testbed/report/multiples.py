"""Hand-offs of a study as small multiples: outage against each quantity, and a panel for each of the rest.

All panels of a figure have the same axes, so that they are compared at a glance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from statistics import linear_regression, median
from typing import Final

from testbed.document.values import Expected, parse_duration, parse_percent
from testbed.evidence.study import Row, StudyTask, TaskRecord
from testbed.report.intervals import of_median
from testbed.report.plots import Interval, Plot, Scale, Series, beside, model, percentile

RTT: Final = "RTT"
"""The axis of round-trip times, which are varied within a task."""
LEAST_RTTS: Final = 3
"""Through fewer medians a line always goes, however little they say of a slope."""
_SPREAD: Final = (-3.0, 0.0, 3.0)
"""By how many pixels points are set aside in turn, so that fewer cover each other."""
_CUT: Final = 1.5
"""How many times further than what the figure is about the axis goes to show moves that are far off."""


@dataclass(frozen=True)
class Sample:
    """All moves of one series with the same options at one round-trip time."""

    series: str
    options: Mapping[str, str]
    rtt_ms: float
    tasks: tuple[StudyTask, ...]
    rows: tuple[tuple[Row, ...], ...]
    """The moves of each task."""

    @cached_property
    def outages(self) -> list[list[float]]:
        """The outages that ended, in ms, by task."""
        return [[row.outage_ms for row in rows if row.outage_ms is not None] for rows in self.rows]

    @cached_property
    def values(self) -> list[float]:
        """The same of all tasks."""
        return [value for outages in self.outages for value in outages]

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """The interval of the median."""
        return of_median(self.outages)

    @property
    def median(self) -> float | None:
        """The median outage in ms; None where none ended."""
        return median(self.values) if self.values else None

    @property
    def p95(self) -> float | None:
        """The 95th percentile, a value that was measured."""
        return percentile(self.values, 0.95) if self.values else None

    @property
    def moves(self) -> int:
        """How many moves there were."""
        return sum(map(len, self.rows))

    @property
    def lost(self) -> float:
        """Packets lost in a move, on average."""
        return sum(row.lost or 0 for rows in self.rows for row in rows) / self.moves

    @property
    def marked(self) -> int:
        """Moves in runs that something speaks against."""
        return sum(bool(row.marks) for rows in self.rows for row in rows)


@dataclass(frozen=True)
class Panel:
    """One plot: what all of its moves had in common."""

    options: Mapping[str, str]
    """Option → value, the round-trip time among them where it is not the axis."""
    plot: Plot


@dataclass(frozen=True)
class Figure:
    """Outage against one quantity."""

    quantity: str
    unit: str
    panels: tuple[Panel, ...]
    beyond: int
    """Moves whose outage was longer than the axis is."""


def samples(records: Iterable[TaskRecord]) -> list[Sample]:
    """The hand-offs of a study, by series, options and round-trip time."""
    measured = [one for one in records if one.task.kind == "handoff"]
    name = _naming([one.task for one in measured])
    found: dict[tuple[str, tuple[str, ...], float], list[tuple[StudyTask, tuple[Row, ...]]]] = {}
    for one in measured:
        for rtt in dict.fromkeys(row.rtt_ms or 0.0 for row in one.rows):
            rows = tuple(row for row in one.rows if (row.rtt_ms or 0.0) == rtt)
            key = (name(one.task), tuple(one.task.options.values()), rtt)
            found.setdefault(key, []).append((one.task, rows))
    return sorted(
        (
            Sample(series, members[0][0].options, rtt, *zip(*members, strict=True))
            for (series, _, rtt), members in found.items()
        ),
        key=lambda one: (one.series, [by_size(value) for value in one.options.values()], one.rtt_ms),
    )


def _naming(tasks: Sequence[StudyTask]) -> Callable[[StudyTask], str]:
    """What a series is called: by its topology, and by its stack where a topology has several."""
    both = {(one.topology, one.stack) for one in tasks}
    stacks = len(both) > len({topology for topology, _ in both})

    def name(task: StudyTask) -> str:
        return f"{task.topology}, {task.stack}" if stacks else task.topology

    return name


def figures(found: Sequence[Sample]) -> list[Figure]:
    """A figure for the round-trip time, and for each option of which all values are quantities of a kind."""
    drawn = [one for one in found if one.values]
    if not drawn:
        return []
    axes = [(RTT, "ms", {f"{one.rtt_ms:g}": one.rtt_ms for one in drawn})]
    for option in drawn[0].options:
        unit, values = _quantity({one.options[option] for one in drawn})
        axes.append((option, unit, values))
    varied = [axis for axis in axes if len(axis[2]) > 1] or axes[:1]
    return [_figure(drawn, *axis) for axis in varied]


def _quantity(texts: Iterable[str]) -> tuple[str, dict[str, float]]:
    """The unit and the values of an option that is a share, a time or a number; no values of any other."""
    for unit, parse in (("%", parse_percent), ("ms", parse_duration), ("", float)):
        try:
            values = {text: 0.0 if text == "0" else parse(text) for text in texts}
        except (Expected, ValueError):
            continue
        if min(values.values()) >= 0:
            return unit, values
    return "", {}


def by_size(text: str) -> tuple[float, str]:
    """By which values of an option are sorted: quantities by size."""
    _, values = _quantity([text])
    return values.get(text, -1.0), text


def _figure(drawn: Sequence[Sample], quantity: str, unit: str, values: Mapping[str, float]) -> Figure:
    names = list(dict.fromkeys(one.series for one in drawn))
    every = [value for one in drawn for value in one.values]
    about = max(percentile(every, 0.95), *(max(one.interval or one.values) for one in drawn))
    most = max(every)
    top = most if most <= about * _CUT else about
    scale = Scale.up_to((max(values.values()) or 1) * 1.05, top * 1.02)

    def at(one: Sample) -> float:
        return one.rtt_ms if quantity == RTT else values[one.options[quantity]]

    def rest(one: Sample) -> dict[str, str]:
        every = {**one.options, RTT: f"{one.rtt_ms:g} ms"}
        return {name: value for name, value in every.items() if name != quantity}

    def key(one: Sample) -> list[tuple[float, str]]:
        return [by_size(value) for value in rest(one).values()]

    panels = []
    for _, members in groupby(sorted(drawn, key=key), key):
        here = list(members)
        series = [
            _series(
                number, name, len(names), [one for one in here if one.series == name], at, scale, quantity
            )
            for number, name in enumerate(names)
            if any(one.series == name for one in here)
        ]
        panels.append(Panel(rest(here[0]), scale.plot(series)))
    beyond = sum(value > scale.y_values[-1] for one in drawn for value in one.values)
    return Figure(quantity, unit, tuple(panels), beyond)


def _series(
    number: int,
    name: str,
    many: int,
    members: Sequence[Sample],
    at: Callable[[Sample], float],
    scale: Scale,
    quantity: str,
) -> Series:
    aside = beside(number, many)
    points = [
        (scale.x(at(one)) + aside + _SPREAD[place % len(_SPREAD)], scale.y(value))
        for one in members
        for place, value in enumerate(one.values)
    ]
    intervals = [
        Interval(
            scale.x(at(one)) + aside,
            scale.y(one.median or 0.0),
            *((scale.y(end) for end in one.interval) if one.interval else ()),
        )
        for one in members
    ]
    line, words = None, ""
    if quantity == RTT and len(members) >= LEAST_RTTS:
        k, constant = linear_regression(
            [one.rtt_ms for one in members], [one.median or 0.0 for one in members]
        )
        line, words = scale.line(k, constant), model(k, constant)
    elif quantity == RTT and len(members) > 1:
        words = f"no line ({len(members)} round-trip times, fewer than {LEAST_RTTS})"
    return Series(number, name, tuple(points), line, words, tuple(intervals))
