"""`testbed report`: one page that shows what was found and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.app import CLAIMS, command
from testbed.cli.options import EvidenceSource, reading
from testbed.cli.output import emit_bytes, emit_text
from testbed.errors import writing


@command("report", panel=CLAIMS)
def report(
    evidence: EvidenceSource,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write",
            "-w",
            metavar="FILE",
            dir_okay=False,
            help="Where to write it; - is stdout. (default: DIR/report.html, or beside FILE.zip FILE.html)",
        ),
    ] = None,
) -> None:
    """Make one self-contained HTML page of an evidence folder, and print its path."""
    from testbed.report.evidence import read_evidence
    from testbed.report.page import render_report, write_report

    with reading(evidence) as folder:
        read = read_evidence(folder)
        if str(write) == "-":
            emit_bytes(render_report(read, links=False).encode())
            return
        path = write or _beside(evidence)
        with writing(path):
            write_report(read, path)
    emit_text(str(path))


def _beside(evidence: Path) -> Path:
    """Where the page goes by default."""
    from testbed.evidence.archive import SUFFIXES

    if evidence.is_dir():
        return evidence / "report.html"
    suffix = next(suffix for suffix in SUFFIXES if evidence.name.endswith(suffix))
    return evidence.with_name(evidence.name.removesuffix(suffix) + ".html")
