"""Hand-offs in numbers and as a plot: outage against round-trip time, with the lines fitted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from statistics import median

from testbed.agreed import STEPS
from testbed.evidence.handoff import HandOff, HandOffRun, HandOffs

WIDTH, HEIGHT = 420.0, 270.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 12.0, 12.0, 40.0
_ASIDE = 10.0  # pixels from the y axis to zero, for points that are set aside


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Interval:
    """A median, and the ends of its interval where there is any, in pixels."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """A solution or stack: its number (which gives it colour and shape), points and line, in pixels."""

    number: int
    name: str
    points: tuple[tuple[float, float], ...]
    line: tuple[float, float, float, float] | None
    model: str
    intervals: tuple[Interval, ...] = ()


@dataclass(frozen=True)
class Plot:
    """Outage against round-trip time."""

    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    series: tuple[Series, ...]
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM
    width: float = WIDTH
    height: float = HEIGHT


@dataclass(frozen=True)
class Distribution:
    """The outages of one run (ms), and what each move cost on average."""

    number: int
    run: HandOffRun
    moves: int
    median: float
    p95: float
    least: float
    most: float
    lost: float
    ike_messages: float
    ike_bytes: float
    mip_messages: float
    mip_bytes: float


@dataclass(frozen=True)
class Segment:
    """A part of a hand-off: from `start` for `length`, both in ms and in percent of the longest."""

    step: str
    start: float
    length: float
    left: float
    width: float


@dataclass(frozen=True)
class Timeline:
    """The move of a run whose outage is the median one, step by step."""

    run: HandOffRun
    move: HandOff
    total: float
    segments: tuple[Segment, ...]


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: a value that was measured."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def ticks(most: float, wanted: int = 5) -> list[float]:
    """Round numbers from 0 to the first that is not below `most`."""
    raw = max(most, 1e-9) / wanted
    power = 10 ** floor(log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    return [step * i for i in range(ceil(most / step - 1e-9) + 1)]


def measured(handoffs: HandOffs) -> list[str]:
    """The solutions or stacks measured, in the order of the file."""
    return list(dict.fromkeys(run.series for run in handoffs.runs))


@dataclass(frozen=True)
class Scale:
    """The axes of a plot, both from zero: from values to pixels."""

    x_values: Sequence[float]
    y_values: Sequence[float]

    @classmethod
    def up_to(cls, x_most: float, y_most: float) -> Scale:
        """Axes with round numbers, the last of which are not below these."""
        return cls(ticks(x_most), ticks(y_most))

    def x(self, value: float) -> float:
        """Pixels from the left."""
        zero = _LEFT + _ASIDE
        return zero + value / self.x_values[-1] * (WIDTH - zero - _RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top; what is beyond the axis is at its end."""
        top = self.y_values[-1]
        return HEIGHT - _BOTTOM - min(max(value, 0), top) / top * (HEIGHT - _TOP - _BOTTOM)

    def line(self, k: float, constant: float) -> tuple[float, float, float, float]:
        """Where the line k × RTT + constant begins and ends: at the end of an axis."""
        end = self.x_values[-1]
        if k * end + constant > self.y_values[-1] and k > 0:
            end = (self.y_values[-1] - constant) / k  # the line leaves through the top
        return (self.x(0), self.y(constant), self.x(end), self.y(k * end + constant))

    def plot(self, series: Iterable[Series]) -> Plot:
        """The plot of what was drawn to this scale."""
        return Plot(
            tuple(Tick(self.x(value), f"{value:g}") for value in self.x_values),
            tuple(Tick(self.y(value), f"{value:g}") for value in self.y_values),
            tuple(series),
        )


def model(k: float, constant: float) -> str:
    """A fitted line in words."""
    return f"{k:.2g} × RTT {'+' if constant >= 0 else '−'} {abs(constant):.0f} ms"


def beside(number: int, many: int) -> float:
    """By how many pixels a series is set aside of others, whose points have the same place on the x axis."""
    return (number - (many - 1) / 2) * 5


def plot(handoffs: HandOffs) -> Plot | None:
    """The plot; None where no outage could be measured."""
    values = [value for run in handoffs.runs for value in run.outages]
    if not values:
        return None
    scale = Scale.up_to(max(max(run.rtt_ms for run in handoffs.runs), 1) * 1.05, max(values) * 1.02)
    names = measured(handoffs)
    series = []
    for number, name in enumerate(names):
        aside = beside(number, len(names))
        points = [
            (scale.x(r.rtt_ms) + aside, scale.y(v))
            for r in handoffs.runs
            if r.series == name
            for v in r.outages
        ]
        fit = handoffs.fit.get(name)
        line, words = None, ""
        if fit and fit.marks:  # drawn, it would look as if it meant something
            words = f"no line ({'; '.join(fit.marks)})"
        elif fit:
            line, words = scale.line(fit.k, fit.constant_ms), model(fit.k, fit.constant_ms)
        series.append(Series(number, name, tuple(points), line, words))
    return scale.plot(series)


def distributions(handoffs: HandOffs) -> list[Distribution]:
    """One for each run with an outage, in the order of the file."""
    numbers = {name: number for number, name in enumerate(measured(handoffs))}
    found = []
    for run in handoffs.runs:
        values, moves = run.outages, len(run.moves)
        if not values:
            continue
        found.append(
            Distribution(
                number=numbers[run.series],
                run=run,
                moves=moves,
                median=median(values),
                p95=percentile(values, 0.95),
                least=min(values),
                most=max(values),
                lost=sum(move.lost or 0 for move in run.moves) / moves,
                ike_messages=sum(move.ike_messages for move in run.moves) / moves,
                ike_bytes=sum(move.ike_bytes for move in run.moves) / moves,
                mip_messages=sum(move.mip_messages for move in run.moves) / moves,
                mip_bytes=sum(move.mip_bytes for move in run.moves) / moves,
            )
        )
    return found


def timelines(handoffs: HandOffs) -> list[Timeline]:
    """The median move of every run, all to one scale."""
    chosen = []
    for run in handoffs.runs:
        moves = sorted((m for m in run.moves if m.outage_ms is not None), key=lambda m: m.outage_ms or 0)
        if moves:
            chosen.append((run, moves[(len(moves) - 1) // 2]))
    longest = max((reached for _, move in chosen for _, reached in _reached(move)), default=0.0)
    return [_timeline(run, move, longest) for run, move in chosen if _reached(move)]


def _reached(move: HandOff) -> list[tuple[str, float]]:
    """The steps reached, in the order in which they were: not every stack goes through them alike."""
    found = [(step, at) for step in STEPS if (at := move.timeline.get(step)) is not None]
    return sorted(found, key=lambda one: one[1])


def _timeline(run: HandOffRun, move: HandOff, longest: float) -> Timeline:
    segments, before = [], 0.0
    for step, at in _reached(move):
        length = at - before
        segments.append(Segment(step, before, length, 100 * before / longest, 100 * length / longest))
        before = at
    return Timeline(run, move, before, tuple(segments))
