"""`testbed graph`: a picture of one topology."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.app import TOPOLOGIES, command
from testbed.cli.options import Sets, Templates, TopologyRef, load_typed
from testbed.cli.output import emit_bytes, note
from testbed.errors import UsageError, cannot_write

FORMS = ("svg", "png", "pdf", "mermaid", "dot")
"""What a topology can be drawn as (`testbed.report.graph`, which is slow to import, knows the same)."""


@command("graph", panel=TOPOLOGIES)
def graph(
    topology: TopologyRef,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="|".join(FORMS),
            help="A picture, or text for Markdown (mermaid) or Graphviz (dot).",
            autocompletion=lambda incomplete: [one for one in FORMS if one.startswith(incomplete)],
        ),
    ] = "svg",
    write: Annotated[
        Path | None,
        typer.Option("--write", "-w", metavar="FILE", help="Write to a file (- is stdout).", dir_okay=False),
    ] = None,
    sets: Sets = None,
    templates: Templates = None,
) -> None:
    """Draw a topology by its domains, as the figures of RFC 4093 do."""
    if form not in FORMS:
        raise UsageError(f"--format {form}: choose {', '.join(FORMS[:-1])} or {FORMS[-1]}")
    from testbed.report.graph import GraphFormat
    from testbed.report.graph import graph as drawn

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
