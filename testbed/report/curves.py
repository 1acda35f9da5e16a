"""How quantities grow, as one drawing: a panel for each quantity, both axes logarithmic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Final

from testbed.report.plots import HEIGHT, WIDTH, Plot, Series, Tick
from testbed.report.templates import environment

COLUMNS: Final = 2
ROW: Final = HEIGHT + 70
"""Pixels from one row of panels to the next."""
_LEAST_LABELS: Final = 8
"""From so many powers of ten on every other has its number written."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One panel: what is drawn, and the points of each series with its name and what is said of it."""

    title: str
    series: Mapping[str, tuple[Sequence[tuple[float, float]], str]]


@dataclass(frozen=True, slots=True)
class Panel:
    """A plot and where it is in the drawing, in pixels."""

    title: str
    plot: Plot
    x: float
    y: float


def draw_curves(title: str, x_title: str, quantities: Sequence[Quantity]) -> str:
    """A self-contained SVG; browsers show it light or dark. Points that are not above zero are left out."""
    names = list(dict.fromkeys(name for quantity in quantities for name in quantity.series))
    panels = []
    for number, quantity in enumerate(quantities):
        row, column = divmod(number, COLUMNS)
        panels.append(Panel(quantity.title, _plot(quantity, names), column * WIDTH, row * ROW))
    rows = ceil(len(panels) / COLUMNS)
    return (
        environment()
        .get_template("curves.svg.j2")
        .render(
            title=title,
            x_title=x_title,
            panels=panels,
            names=names,
            width=COLUMNS * WIDTH,
            height=rows * ROW,
        )
    )


def _plot(quantity: Quantity, names: Sequence[str]) -> Plot:
    frame = Plot((), (), ())
    drawn = {
        name: ([(x, y) for x, y in points if x > 0 and y > 0], words)
        for name, (points, words) in quantity.series.items()
    }
    every = [point for points, _ in drawn.values() for point in points]
    xs = _powers([x for x, _ in every])
    ys = _powers([y for _, y in every])

    def across(x: float) -> float:
        return frame.left + (log10(x) - xs[0]) / (xs[-1] - xs[0]) * (frame.right - frame.left)

    def up(y: float) -> float:
        return frame.bottom - (log10(y) - ys[0]) / (ys[-1] - ys[0]) * (frame.bottom - frame.top)

    return Plot(
        tuple(Tick(across(10.0**power), _written(power, xs)) for power in xs),
        tuple(Tick(up(10.0**power), _written(power, ys)) for power in ys),
        tuple(
            Series(names.index(name), name, tuple((across(x), up(y)) for x, y in points), None, words)
            for name, (points, words) in drawn.items()
        ),
    )


def _powers(values: Sequence[float]) -> list[int]:
    """The powers of ten from the one below all values to the one above."""
    if not values:
        return [0, 1]
    least, most = floor(log10(min(values))), ceil(log10(max(values)))
    return list(range(least, max(most, least + 1) + 1))


def _written(power: int, powers: Sequence[int]) -> str:
    if len(powers) >= _LEAST_LABELS and (power - powers[0]) % 2:
        return ""
    return f"{10.0**power:g}" if power < 4 else f"{10 ** (power % 3)}{'kMG'[power // 3 - 1]}"
