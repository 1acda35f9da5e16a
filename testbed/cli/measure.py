"""`testbed measure`: numbers instead of verdicts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.app import CLAIMS, command
from testbed.cli.complete import complete_between, complete_evidence, complete_stack
from testbed.cli.experiments import Baseline, earlier_handoffs, end_if_worse, laboratory, say_where
from testbed.cli.options import Engines, Output, Sets, Templates, TopologyRef, argument_of, as_typed
from testbed.cli.output import Format, emit, emit_json, emit_rows, note
from testbed.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from testbed.evidence.handoff import HandOffs


class Quantity(StrEnum):
    """What can be measured."""

    handoff = "handoff"


@command("measure", panel=CLAIMS)
def measure(
    what: Annotated[Quantity, argument_of(Quantity, "The outage that a move between networks costs.")],
    topology: TopologyRef,
    moves: Annotated[
        int,
        typer.Option(
            "--moves", metavar="N", min=1, max=1000, help="Moves for each stack and round-trip time."
        ),
    ] = 10,
    rtt: Annotated[
        str, typer.Option("--rtt", metavar="TIME,…", help="Round-trip times across the hub network.")
    ] = "0,40,100,200ms",
    stack: Annotated[
        list[str] | None,
        typer.Option(
            "--stack",
            metavar="STACK",
            help="Measure only this stack; may be given several times.",
            autocompletion=complete_stack,
        ),
    ] = None,
    between: Annotated[
        str | None,
        typer.Option(
            "--between",
            metavar="A,B",
            help="Move to and fro between these networks. Default: the first two that this stack supports.",
            autocompletion=complete_between,
        ),
    ] = None,
    sets: Sets = None,
    templates: Templates = None,
    engines: Engines = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            "--evidence",
            metavar="DIR|FILE",
            help="Save numbers and captures in this folder or file (.zip or .tar.zst), and keep what it "
            "already holds; `testbed report` draws them.",
            autocompletion=complete_evidence,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="LAB", help="The name of the lab.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the labs up.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where something speaks against the numbers.")
    ] = False,
    baseline: Baseline = None,
    output: Output = Format.table,
) -> None:
    """Move a mobile node to and fro and measure how long each move interrupts traffic, and why.

    A lab for each stack; the round-trip time is changed while it runs. What speaks against the numbers is
    marked: a busy machine, a reaction over its budget, outages that fit no line. Exit code 1 if after some
    move traffic did not come back; with --baseline only where less was lost, or a budget was kept, before.
    """
    from testbed.experiment.handoff.measure import Measurement, plan_stacks
    from testbed.report.baseline import worse_handoffs

    before = earlier_handoffs(baseline)
    rtts = parse_rtts(rtt)
    places = [one.strip() for one in between.split(",")] if between else []
    with as_typed(sets):
        plans = plan_stacks(topology, sets or (), stack or (), places, templates)
    with laboratory(evidence, engines=engines or (), lab=name) as at:
        measurement = Measurement(
            at.engine, at.image, at.pool, at.evidence, name=name, keep=keep, progress=at.progress
        )
        document = measurement.measure(plans, rtts, moves)
    if output is Format.json:
        emit_json(document.document)
    else:
        _print(document)
    if keep:
        note(f"left up: {', '.join(measurement.labs)}")
    say_where(evidence)
    if before is not None:
        end_if_worse(worse_handoffs(document, before))
        return
    lost = any(move.outage_ms is None for run in document.runs for move in run.moves)
    if lost or (strict and any(document.marks)):
        raise typer.Exit(ExitCode.FAILED)


def parse_rtts(text: str) -> list[float]:
    """Round-trip times in ms; one without a unit has that of the next that has one. Raises `UsageError`."""
    from testbed.document.values import Expected, parse_duration

    words = [word.strip() for word in text.split(",")]
    unit, found = "", []
    for word in reversed(words):
        number = word.rstrip("abcdefghijklmnopqrstuvwxyz ")
        unit = word[len(number) :] or unit
        try:
            found.append(parse_duration(0 if word == "0" else number + unit))
        except Expected as error:
            raise UsageError(f"--rtt {text}: {word!r}: expected {error.expected}", hint=error.hint) from error
    return sorted(dict.fromkeys(found))


def _print(document: HandOffs) -> None:
    from testbed.agreed import STEPS
    from testbed.evidence.carriers import sentence
    from testbed.experiment.handoff.fit import spread

    rows, steps = [], []
    for run in document.runs:
        these, moves = spread(run.outages), run.moves
        head = (run.series, " ↔ ".join(run.between), _ms(run.rtt_ms))
        numbers = (these.median, these.p95, these.least, these.most) if these else (None,) * 4
        counts = [
            f"{fmean(numbers):.1f} / {fmean(octets):.0f}"
            for numbers, octets in (
                ([move.ike_messages for move in moves], [move.ike_bytes for move in moves]),
                ([move.mip_messages for move in moves], [move.mip_bytes for move in moves]),
            )
        ]
        lost = f"{fmean(move.lost for move in moves):.0f}"
        rows.append(
            (
                *head,
                len(moves),
                *map(_ms, numbers),
                _trips(run.round_trips, run.measured_rtt_ms),
                _reaction(run.reaction_ms, run.budget_ms),
                lost,
                *counts,
            )
        )
        lengths = run.step_lengths
        steps.append((*head, *(_ms(lengths.get(step)) for step in STEPS)))
    where = ("STACK", "BETWEEN", "RTT")
    emit_rows(
        (
            *where,
            "MOVES",
            "MEDIAN",
            "P95",
            "MIN",
            "MAX",
            "ROUND TRIPS",
            "REACTION",
            "LOST",
            "IKE MSGS / BYTES",
            "MIP MSGS / BYTES",
        ),
        rows,
        title="Outage (ms; packets lost and messages: mean of a move; REACTION: median less round trips)",
    )
    emit()
    emit_rows(
        (*where, *(step.upper() for step in STEPS)), steps, title="Where it goes (ms, median of a step)"
    )
    emit()
    if carried := sentence(run.carriers for run in document.runs):
        emit(carried)
    budgets = {run.budget_ms for run in document.runs if run.budget_ms is not None}
    for budget in sorted(budgets):
        emit(f"the mobile node's own reaction may take {budget:.0f} ms")
    for series, fit in document.fit.items():
        if not fit.marks:
            emit(f"{series}: outage = {fit.k:.2f} × RTT + {fit.constant_ms:.0f} ms")
    for mark in document.marks:
        emit(f"! {mark}")


def _trips(number: int | None, rtt: float | None) -> str:
    return "–" if number is None or rtt is None else f"{number} × {_ms(rtt)}"


def _reaction(value: float | None, budget: float | None) -> str:
    exceeded = value is not None and budget is not None and value > budget
    return f"{_ms(value)} (budget {_ms(budget)}) – EXCEEDED" if exceeded else _ms(value)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
