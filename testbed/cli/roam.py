"""`testbed roam`: move a mobile node about by a schedule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import LabName, NodeName, engine_connection
from testbed.cli.options import Output, parsed
from testbed.cli.output import SCHEMA_VERSION, Format, as_called, emit, emit_text, note
from testbed.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from testbed.lab.trace import Step
    from testbed.lab.walk import Moved


@command("roam", panel=LABS)
def roam(
    lab: LabName,
    node: NodeName,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="CSV: seconds from now on, and a network (12.5,hotel); of a crowd also which part moves, "
            "and in what time (12.5,hotel,25%,2s).",
        ),
    ] = None,
    at_random: Annotated[
        bool, typer.Option("--random", help="Any network but the one before, every few seconds.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", metavar="N", help="Of --random: the same moves for the same N.", show_default="1"
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            "--every", metavar="TIME", help="Of --random: from one move to the next.", show_default="5s"
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", metavar="N", min=1, help="Of --random: end after N moves. Default: Ctrl-C ends."
        ),
    ] = None,
    output: Output = Format.table,
) -> None:
    """Move a mobile node by a trace or at random, and print what came of each move.

    With -o json each move is an object in a line. Times count from the beginning: a move that takes long
    makes the next one late, and not those after it. What is late is reported. Exit code 1 if after some move
    the node was neither registered nor at home; 130 if Ctrl-C ended it before its end.
    """
    from testbed.document.values import parse_duration
    from testbed.lab.crowd import crowd_homes
    from testbed.lab.interrupt import stoppable
    from testbed.lab.move import attachments, in_words, result
    from testbed.lab.state import find_lab
    from testbed.lab.trace import random_steps, read_trace
    from testbed.lab.walk import LATE, walk, walk_crowd

    if (trace is None) != at_random:
        raise UsageError("give --trace FILE or --random", hint="testbed roam LAB mn --random --every 10s")
    if trace and (seed, every, count) != (None, None, None):
        raise UsageError("--seed, --every and --count belong to --random")
    period = parsed("--every", every or "5s", parse_duration) / 1000
    done: list[Moved] = []
    begun: list[Step] = []
    with engine_connection(lab) as engine, stoppable():
        found = find_lab(engine, lab)
        networks = attachments(found, node)
        chosen = 1 if seed is None else seed
        homes = crowd_homes(engine, found, node)
        steps = read_trace(trace, networks, homes) if trace else random_steps(networks, chosen, period, count)
        go = walk if homes is None else walk_crowd
        try:
            with closing(go(engine, found, node, steps, due=begun.append)) as moves:
                for one in moves:
                    done.append(one)
                    if output is Format.json:
                        times = {"at": one.step.at, "late": round(one.late, 3)}
                        facts = {"schema_version": SCHEMA_VERSION, **times, **result(lab, node, one.settled)}
                        emit_text(json.dumps(facts))
                    else:
                        _print(one, in_words(engine, found, node, one.settled))
                    if one.late >= LATE:
                        note(f"this move began {one.late:.1f} s late")
            ended = True
        except KeyboardInterrupt:
            ended = at_random and count is None  # the usual way to end what has no end
    over = {id(one.step) for one in done}
    if under_way := [step for step in begun if id(step) not in over]:
        note(f"{node} is still on its way to {', '.join(dict.fromkeys(step.network for step in under_way))}")
    note(_summary(done))
    if not ended:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if any(map(_lost, done)):
        raise typer.Exit(ExitCode.FAILED)


def _print(one: Moved, words: str) -> None:
    timeline = (one.settled.get("timeline") or {}).items()
    steps = ", ".join(f"{step} {ms:.1f}" for step, ms in timeline if ms is not None)
    emit(as_called(f"{one.step.at:8.1f} s  {words}" + (f"\n{'':12}{steps} ms" if steps else "")))


def _lost(one: Moved) -> bool:
    return one.settled.get("state") == "unregistered"


def _summary(done: Sequence[Moved]) -> str:
    from testbed.lab.walk import LATE

    lost = sum(map(_lost, done))
    late = [one.late for one in done if one.late >= LATE]
    text = f"{len(done)} move{'s' * (len(done) != 1)}, {lost} without a registration"
    return text + (f", {len(late)} late (by {max(late):.1f} s at most)" if late else "")
