"""`testbed report`: one page that shows what was found and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.app import CLAIMS, command
from testbed.cli.output import emit_bytes, emit_text
from testbed.errors import cannot_write


@command("report", panel=CLAIMS)
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="An evidence folder of `verify`, `matrix` or `measure`.")
    ],
    write: Annotated[
        Path | None,
        typer.Option(
            "--write",
            "-w",
            metavar="FILE",
            dir_okay=False,
            help="Where to write it; - is stdout. (default: DIR/report.html)",
        ),
    ] = None,
) -> None:
    """Make one self-contained HTML page of an evidence folder, and print its path."""
    from testbed.report.evidence import read_evidence
    from testbed.report.page import render_report, write_report

    evidence = read_evidence(folder)
    if str(write) == "-":
        emit_bytes(render_report(evidence, links=False).encode())
        return
    path = write or folder / "report.html"
    try:
        write_report(evidence, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    emit_text(str(path))
