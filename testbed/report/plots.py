"""Hand-offs in numbers and as a plot: outage against round-trip time, with the lines fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from statistics import median

from testbed.agreed import STEPS
from testbed.evidence.handoff import HandOff, HandOffRun, HandOffs

WIDTH, HEIGHT = 420.0, 270.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 12.0, 12.0, 40.0


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Series:
    """A solution or stack: its number (which gives it colour and shape), points and line, in pixels."""

    number: int
    name: str
    points: tuple[tuple[float, float], ...]
    line: tuple[float, float, float, float] | None
    model: str


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


def plot(handoffs: HandOffs) -> Plot | None:
    """The plot; None where no outage could be measured."""
    values = [value for run in handoffs.runs for value in run.outages]
    if not values:
        return None
    x_values = ticks(max(max(run.rtt_ms for run in handoffs.runs), 1) * 1.05)
    y_values = ticks(max(values) * 1.02)
    across, up = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def x(rtt: float) -> float:
        return _LEFT + rtt / x_values[-1] * across

    def y(outage: float) -> float:
        return HEIGHT - _BOTTOM - outage / y_values[-1] * up

    names = measured(handoffs)
    series = []
    for number, name in enumerate(names):
        beside = (number - (len(names) - 1) / 2) * 5  # side by side where their RTTs are the same
        points = [(x(r.rtt_ms) + beside, y(v)) for r in handoffs.runs if r.series == name for v in r.outages]
        fit = handoffs.fit.get(name)
        line, model = None, ""
        if fit:
            end = x_values[-1]
            if fit.k * end + fit.constant_ms > y_values[-1] and fit.k > 0:
                end = (y_values[-1] - fit.constant_ms) / fit.k  # the line leaves through the top
            line = (x(0), y(max(fit.constant_ms, 0)), x(end), y(max(fit.k * end + fit.constant_ms, 0)))
            model = f"{fit.k:.2g} × RTT + {fit.constant_ms:.0f} ms"
        if fit and fit.marks:  # drawn, it would look as if it meant something
            line, model = None, f"no line ({'; '.join(fit.marks)})"
        series.append(Series(number, name, tuple(points), line, model))
    return Plot(
        tuple(Tick(x(value), f"{value:g}") for value in x_values),
        tuple(Tick(y(value), f"{value:g}") for value in y_values),
        tuple(series),
    )


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
