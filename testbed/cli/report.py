"""`testbed report`: one page that shows what was found and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from testbed.cli.app import CLAIMS, command
from testbed.cli.options import EvidenceSource, reading
from testbed.cli.page import NAME, emit_page, page_option


@command("report", panel=CLAIMS)
def report(
    evidence: EvidenceSource,
    write: Annotated[Path | None, page_option(f"DIR/{NAME}, or beside FILE.zip FILE.html")] = None,
) -> None:
    """Make one self-contained HTML page of an evidence folder, and print its path."""
    from testbed.report.evidence import read_evidence
    from testbed.report.page import render_report

    with reading(evidence) as folder:
        read = read_evidence(folder)
        emit_page(lambda links: render_report(read, links=links), write, _beside(evidence), about=read.folder)


def _beside(evidence: Path) -> Path:
    """Where the page goes by default."""
    from testbed.evidence.archive import SUFFIXES

    if evidence.is_dir():
        return evidence / NAME
    suffix = next(suffix for suffix in SUFFIXES if evidence.name.endswith(suffix))
    return evidence.with_name(evidence.name.removesuffix(suffix) + ".html")
