"""The comments of a document: what its author remarks at the end of a line."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from testbed.errors import Source


def remark(source: Source) -> str:
    """The comment at the end of the line where something was written; empty where there is none.

    A file that cannot be read any more has none either.
    """
    lines = _lines(source.file)
    return _comment(lines[source.line - 1]) if source.line and source.line <= len(lines) else ""


@cache
def _lines(file: str) -> tuple[str, ...]:
    try:
        return tuple(Path(file).read_text(encoding="utf-8").split("\n"))
    except (OSError, ValueError):
        return ()


def _comment(line: str) -> str:
    """What is behind a `#` that follows a space and is not inside quotes."""
    quote, before = "", " "
    for index, one in enumerate(line):
        if quote:
            quote = "" if one == quote and before != "\\" else quote
        elif one in "'\"" and before in " [{,:":
            quote = one
        elif one == "#" and before.isspace():
            return line[index + 1 :].strip()
        before = one
    return ""
