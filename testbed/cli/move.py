"""`testbed move`: attach a mobile node to another network."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer

from testbed.agreed import MOVE_STARTED, SETTLED
from testbed.cli.app import LABS, command
from testbed.cli.labs import LabName, NodeName, complete_attachment, engine_connection
from testbed.cli.options import Output, parsed
from testbed.cli.output import Format, as_called, emit, emit_json, emit_rows, note
from testbed.errors import ExitCode


@command("move", panel=LABS)
def move(
    lab: LabName,
    node: NodeName,
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK", help="A network that it can attach to.", autocompletion=complete_attachment
        ),
    ],
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            metavar="PART",
            help="Of a crowd (role bulk-nodes) a share, 25%, or home addresses, "
            "10.64.0.10-10.64.0.19. Default: all.",
        ),
    ] = None,
    within: Annotated[
        str | None,
        typer.Option("--within", metavar="TIME", help="Of a crowd: move one after the other in this time."),
    ] = None,
    output: Output = Format.table,
) -> None:
    """Move a mobile node and print the hand-off timeline.

    Exit code 1 if it ends up neither registered nor at home.
    """
    from testbed.document.values import parse_duration, parse_part
    from testbed.lab.move import in_words, result
    from testbed.lab.move import move as carry_out
    from testbed.lab.state import find_lab

    which = parsed("--part", part, parse_part) if part is not None else None
    seconds = parsed("--within", within, parse_duration) / 1000 if within is not None else 0.0
    settled: dict[str, Any] = {}
    with engine_connection(lab) as engine:
        found = find_lab(engine, lab)
        with closing(carry_out(engine, found, node, network, which, seconds)) as events:
            for event in events:
                settled = event
                if event["event"] not in (MOVE_STARTED, SETTLED):
                    note(f"{event.get('ms', '')} ms  {event['event']}  {_fields(event)}", level=1)
        words = in_words(engine, found, node, settled) if output is Format.table else ""
    if output is Format.json:
        emit_json(result(lab, node, settled))
    else:
        timeline = settled.get("timeline") or {}
        emit_rows(
            ("STEP", "AFTER (ms)"),
            [(step, "-" if ms is None else f"{ms:.1f}") for step, ms in timeline.items()],
        )
        emit(as_called(f"\n{words}"))
    if settled.get("state") == "unregistered":
        raise typer.Exit(ExitCode.FAILED)


def _fields(event: dict[str, Any]) -> str:
    hidden = {"event", "source", "monotonic", "network", "ms"}
    return " ".join(f"{key}={value}" for key, value in event.items() if key not in hidden)
