"""`testbed graph`: a picture of one topology."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.app import TOPOLOGIES, command
from testbed.cli.options import Sets, Templates, TopologyRef, load_typed, one_of
from testbed.cli.output import emit_bytes, note
from testbed.errors import UsageError, cannot_write


class Form(StrEnum):
    """What a topology can be drawn as (`testbed.report.graph`, which is slow to import, knows the same)."""

    svg = "svg"
    png = "png"
    pdf = "pdf"
    mermaid = "mermaid"
    dot = "dot"


_ENDINGS = {f".{form}": form for form in Form} | {".mmd": Form.mermaid, ".gv": Form.dot}
"""What a file is to hold whose name ends so."""


@command("graph", panel=TOPOLOGIES)
def graph(
    topology: TopologyRef,
    form: Annotated[
        Form | None,
        one_of(
            Form,
            "--format",
            help="A picture, or text for Markdown (mermaid) or Graphviz (dot). "
            "(default: what the name of FILE ends in, else svg)",
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option("--write", "-w", metavar="FILE", help="Write to a file (- is stdout).", dir_okay=False),
    ] = None,
    sets: Sets = None,
    templates: Templates = None,
) -> None:
    """Draw a topology by its domains, as the figures of RFC 4093 do."""
    from testbed.report.graph import GraphFormat
    from testbed.report.graph import graph as drawn

    form = form or _ENDINGS.get(write.suffix.lower() if write else "", Form.svg)
    loaded = load_typed(topology, sets, templates)
    attached = loaded.options.get("attach")
    data = drawn(
        loaded.topology,
        GraphFormat(form),
        attached=None if attached is None else str(attached),
        roles=loaded.roles,
    )
    if write is None or str(write) == "-":
        if form in ("png", "pdf") and sys.stdout.isatty():
            raise UsageError(f"a {form} is not for terminals", hint=f"-w {loaded.name}.{form}")
        emit_bytes(data)
        return
    try:
        write.write_bytes(data)
    except OSError as error:
        raise cannot_write(write, error) from error
    note(f"wrote {write}")
