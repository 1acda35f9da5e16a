"""Pages that commands make: where they go, and whether they point to the evidence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer
from typer.models import OptionInfo

from testbed.cli.output import emit_bytes, emit_text
from testbed.errors import writing

NAME = "report.html"
"""The file in the folder of what a page is about."""


def page_option(default: str) -> OptionInfo:
    """Where a page goes; `default` says it in words."""
    made: OptionInfo = typer.Option(
        "--write",
        "-w",
        metavar="FILE",
        dir_okay=False,
        help=f"Where to write it; - is stdout. (default: {default})",
    )
    return made


def emit_page(render: Callable[[bool], str], write: Path | None, default: Path, about: Path) -> None:
    """Write a page to the file that was named, else to `default`, and print its path; - is stdout.

    `render` is given whether the page lies in the folder `about`, and can point to the files there. Raises
    `TestbedError` where the file cannot be written.
    """
    if str(write) == "-":
        emit_bytes(render(False).encode())
        return
    path = write or default
    page = render(path.resolve().parent == about.resolve())
    with writing(path):
        path.write_text(page, encoding="utf-8")
    emit_text(str(path))
