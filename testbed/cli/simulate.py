"""`testbed simulate`: many mobile nodes in virtual time."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from functools import partial
from io import StringIO
from itertools import groupby, product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.app import CLAIMS, command
from testbed.cli.complete import complete_simulated
from testbed.cli.labs import Narrator, narrated
from testbed.cli.options import one_of, parsed
from testbed.cli.output import emit, emit_json, emit_rows, emit_text, note
from testbed.errors import ExitCode, writing

if TYPE_CHECKING:
    from testbed.simulate.curves import Curve
    from testbed.simulate.model import Model
    from testbed.simulate.run import Outcome


class SimulationFormat(StrEnum):
    """How the numbers are printed."""

    table = "table"
    json = "json"
    csv = "csv"


class Restarted(StrEnum):
    """What can be killed."""

    ha = "ha"
    x_ha = "x-ha"
    fa = "fa"
    gw = "gw"


SURE = 5.0
"""Seconds after which an estimate is worth something."""
TITLES = {
    "messages": "Messages",
    "state": "Most entries at once",
    "recovery": "Seconds from death to recovery, all state lost",
}
"""What the table and the drawing have; JSON and CSV have bytes as well."""


@command("simulate", panel=CLAIMS)
def simulate(
    solution: Annotated[
        list[str] | None,
        typer.Option(
            "--solution",
            metavar="NAME",
            help="Only this solution; may be given several times.",
            autocompletion=complete_simulated,
        ),
    ] = None,
    nodes: Annotated[
        str, typer.Option("--nodes", metavar="N,…", help="How many mobile nodes, one simulation for each.")
    ] = "1,10,100,1000",
    hours: Annotated[
        float,
        typer.Option(
            "--hours",
            metavar="H",
            min=0.01,
            max=1000,
            help="How long they are observed, in virtual time.",
        ),
    ] = 1.0,
    attach: Annotated[
        str, typer.Option("--attach", metavar="TIME", help="Within which every mobile node attaches first.")
    ] = "60s",
    stay: Annotated[
        str,
        typer.Option(
            "--stay",
            metavar="TIME|ever",
            help="How long a mobile node stays in a network on average, exponentially distributed; ever: "
            "nobody moves.",
        ),
    ] = "15min",
    lifetime: Annotated[
        str, typer.Option("--lifetime", metavar="TIME", help="Of registrations, asked for and granted.")
    ] = "600s",
    rtt: Annotated[
        str,
        typer.Option(
            "--rtt",
            metavar="TIME",
            help="Across the Internet and back: 40ms; 20ms..200ms evenly distributed; 20ms+30ms at least "
            "20 ms, and 30 ms more on average, exponentially distributed.",
        ),
    ] = "40ms",
    loss: Annotated[
        str, typer.Option("--loss", metavar="SHARE", help="Of the messages that cross the Internet.")
    ] = "0",
    advertise: Annotated[
        str, typer.Option("--advertise", metavar="TIME", help="From one agent advertisement to the next.")
    ] = "60s",
    restart: Annotated[
        list[Restarted] | None,
        one_of(
            Restarted,
            "--restart",
            help="Kill this agent afterwards, and see how long recovery takes; may be given several times.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="The same simulation for the same number.")
    ] = 1,
    write: Annotated[
        Path | None,
        typer.Option("--write", "-w", metavar="FILE.svg", dir_okay=False, help="Draw the curves as well."),
    ] = None,
    output: Annotated[
        SimulationFormat,
        one_of(
            SimulationFormat,
            "--output",
            "-o",
            help="A table for people, JSON for programs, a tidy CSV table.",
        ),
    ] = SimulationFormat.table,
) -> None:
    """Simulate many mobile nodes with the daemons' own state machines, without containers, in virtual time.

    Prints messages, state and times to recover of home agents, foreign agents and gateway by the number of
    mobile nodes, each with the exponent by which it grows. Exit code 1 if messages or state grow faster than
    linearly: by an exponent over 1.1 (guideline 5.7). Small numbers of mobile nodes are simulated several
    times, with one seed after the other, and the mean counts. IKE is not simulated: its costs were measured.
    Ctrl-C ends it, and what is finished is printed.
    """
    from testbed.lab.interrupt import stoppable
    from testbed.simulate.curves import curves, runs
    from testbed.simulate.model import Model, Paths
    from testbed.simulate.run import simulate as run
    from testbed.simulate.run import work
    from testbed.simulate.solutions import SOLUTIONS
    from testbed.simulate.values import (
        parse_loss,
        parse_rtt,
        parse_seconds,
        parse_sizes,
        parse_solution,
        parse_stay,
        parse_whole_seconds,
    )

    chosen = dict.fromkeys(solution or SOLUTIONS)
    solutions = [parsed("--solution", name, parse_solution) for name in chosen]
    sizes = parsed("--nodes", nodes, parse_sizes)
    model = Model(
        duration=hours * 3600,
        attach=parsed("--attach", attach, parse_seconds),
        stay=parsed("--stay", stay, parse_stay),
        lifetime=parsed("--lifetime", lifetime, parse_whole_seconds),
        paths=Paths(parsed("--rtt", rtt, parse_rtt), parsed("--loss", loss, parse_loss)),
        advertise=parsed("--advertise", advertise, parse_whole_seconds),
        restarts=tuple(each.value for each in restart or ()),
        seed=seed,
    )
    outcomes: list[Outcome] = []
    planned = [
        (one, size, seed + again) for one, size in product(solutions, sizes) for again in range(runs(size))
    ]
    with narrated() as narrator, stoppable():
        estimate = _Estimate(narrator, sum(work(model, size) for _, size, _ in planned))
        try:
            for one, size, this in planned:
                what = f"{one.name}, N = {size:,}, seed {this}"
                outcomes.append(run(one, replace(model, seed=this), size, partial(estimate.show, what)))
                estimate.finished(work(model, size))
        except KeyboardInterrupt:
            if not outcomes:
                raise
    missing = [f"{one.name}, N = {size:,}" for one, size, _ in planned[len(outcomes) :]]
    found = curves(outcomes)
    match output:
        case SimulationFormat.json:
            emit_json(_document(model, outcomes, found))
        case SimulationFormat.csv:
            _csv(outcomes)
        case _:
            _table(found)
    if write is not None:
        with writing(write):
            write.write_text(_drawing(found), encoding="utf-8")
        note(f"curves in {write}")
    if missing:
        note(f"interrupted; not simulated: {'; '.join(dict.fromkeys(missing))}")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if any(curve.too_steep for curve in found):
        raise typer.Exit(ExitCode.FAILED)


class _Estimate:
    """Shows how far simulations are, and how long the rest will take if it takes what all before took."""

    def __init__(self, narrator: Narrator, whole: float) -> None:
        """`whole` is the work of all, in registrations."""
        self._narrator = narrator
        self._whole = whole
        self._before = 0.0
        self._began = time.monotonic()

    def finished(self, work: float) -> None:
        """One is over."""
        self._before += work

    def show(self, what: str, now: float, work: float) -> None:
        """One has reached a virtual time, and done so much of its work."""
        from testbed.document.values import duration

        passed, done = time.monotonic() - self._began, (self._before + work) / self._whole
        text = f"{what}: {now / 3600:.2f} h of virtual time, {done:.0%} of all"
        if passed >= SURE and 0 < done < 1:
            text += f", about {duration(passed / done - passed)} left"
        self._narrator.show(text)


def _document(model: Model, outcomes: Sequence[Outcome], found: Sequence[Curve]) -> dict[str, object]:
    return {
        "model": asdict(model),
        "outcomes": [asdict(outcome) for outcome in outcomes],
        "curves": [{**asdict(curve), "linear": not curve.too_steep} for curve in found],
    }


def _csv(outcomes: Sequence[Outcome]) -> None:
    """A line for each number."""
    from testbed.simulate.curves import quantities

    lines = StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(("solution", "nodes", "seed", "kind", "name", "value"))
    for outcome in outcomes:
        for number in quantities(outcome):
            writer.writerow((outcome.solution, outcome.nodes, outcome.seed, *number))
    emit_text(lines.getvalue().rstrip())


def _table(found: Sequence[Curve]) -> None:
    """A table for each kind of quantity; what was counted for one number of nodes only has no exponent."""
    sizes = sorted({size for curve in found for size, _ in curve.points})
    for kind, title in TITLES.items():
        rows = []
        for solution, these in groupby(
            (curve for curve in found if curve.kind == kind), key=lambda curve: curve.solution
        ):
            for number, curve in enumerate(these):
                values = dict(curve.points)
                cells = [_written(values.get(size)) for size in sizes]
                rows.append(("" if number else solution, curve.name, *cells, _exponent(curve)))
        if rows:
            heads = [f"N = {size:,}" for size in sizes]
            emit_rows(("SOLUTION", "WHERE", *heads, "EXPONENT"), rows, title=title, keep=("WHERE",))
            emit()


def _written(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _exponent(curve: Curve) -> str:
    if curve.exponent is None:
        return "–"
    return f"{curve.exponent:.2f}{' ! over 1.1' if curve.too_steep else ''}"


def _drawing(found: Sequence[Curve]) -> str:
    from testbed.report.curves import Quantity, draw_curves

    panels: dict[str, dict[str, tuple[Sequence[tuple[float, float]], str]]] = {}
    for curve in found:
        if curve.kind in TITLES:
            words = "" if curve.exponent is None else f"exponent {curve.exponent:.2f}"
            title = f"{TITLES[curve.kind]}: {curve.name}"
            panels.setdefault(title, {})[curve.solution] = curve.points, words
    quantities = [Quantity(title, series) for title, series in panels.items()]
    return draw_curves("testbed simulate", "mobile nodes", quantities)
