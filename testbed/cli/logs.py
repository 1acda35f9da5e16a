"""`testbed logs`: what nodes wrote."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import LabName, complete_node, engine_connection
from testbed.cli.options import Output
from testbed.cli.output import SCHEMA_VERSION, Format, console

if TYPE_CHECKING:
    from testbed.lab.logs import NodeLine

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")


@command("logs", panel=LABS)
def logs(
    lab: LabName,
    nodes: Annotated[
        list[str] | None,
        typer.Argument(metavar="NODE", help="Only these nodes.", autocompletion=complete_node),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")] = False,
    events: Annotated[
        bool, typer.Option("--events", help="Structured events only; omit daemon output.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, metavar="LINES", help="Only the last lines of each.")
    ] = None,
    output: Output = Format.table,
) -> None:
    """Print the events and logs of nodes in order of time; with -o json one object a line."""
    from testbed.lab.logs import read_logs
    from testbed.lab.state import find_lab

    with engine_connection(lab) as engine:
        found = find_lab(engine, lab)
        chosen = {name: found.node(name) for name in (nodes or found.nodes)}
        colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(chosen)}
        width = max(map(len, chosen), default=0)
        with closing(read_logs(engine, chosen, follow=follow, tail=tail, events=events)) as lines:
            for line in lines:
                if output is Format.json:
                    print(json.dumps(_facts(line)), flush=follow)
                else:
                    _print(line, colours[line.node], width)


def _facts(line: NodeLine) -> dict[str, object]:
    common = {"schema_version": SCHEMA_VERSION, "node": line.node, "time": line.line.time}
    if event := line.event:
        return {**common, "event": event.name, "source": event.source, **event.fields}
    return {**common, "stream": line.line.stream, "text": line.line.text}


def _print(line: NodeLine, colour: str, width: int) -> None:
    from rich.text import Text

    stamp = datetime.fromtimestamp(line.line.time).strftime("%H:%M:%S.%f")[:-3]
    parts: list[tuple[str, str]] = [(stamp, "dim"), ("  ", ""), (line.node.ljust(width), colour), ("  ", "")]
    if event := line.event:
        fields = {key: value for key, value in event.fields.items() if key != "monotonic"}
        text = " ".join(f"{key}={_value(value)}" for key, value in fields.items())
        parts += [(f"{event.source} {event.name}", "bold"), (f" {text}" if text else "", "")]
    else:
        parts.append((line.line.text, ""))
    console().print(Text.assemble(*parts), soft_wrap=True)


def _value(value: object) -> str:
    return value if isinstance(value, str) and " " not in value else json.dumps(value)
