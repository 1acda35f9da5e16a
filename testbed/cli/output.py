"""What commands print: data on stdout (a table for people, JSON for programs), everything else on stderr."""

from __future__ import annotations

import codecs
import json
import os
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from textwrap import TextWrapper
from typing import TYPE_CHECKING, Any, Final, TextIO
from unicodedata import normalize

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

SCHEMA_VERSION = 1
"""Counts up when a key of the JSON output changes its meaning or goes away; new keys may come at any time."""


_PLAIN: Final = {
    "§": "sec. ", "–": "-", "—": "-", "…": "...", "×": "x", "→": ">", "↔": "-", "›": ">", "·": "-",
    "✓": "+", "✗": "x", "∅": "{}", "⊆": "<=", "≤": "<=", "≥": ">=",
    "‘": "'", "’": "'", "“": '"', "”": '"',
}  # fmt: skip
"""What stands for a character that an output stream's encoding lacks."""


class Format(StrEnum):
    """How data is printed."""

    table = "table"
    json = "json"


class CiFormat(StrEnum):
    """How data is printed that workflows on GitHub read, too."""

    table = "table"
    json = "json"
    github = "github"


@dataclass
class Verbosity:
    """How much goes to stderr; set once by the global options."""

    level: int = 0
    """-1 quiet (errors only), 0 progress, 1 details, 2 everything, with Python tracebacks."""


@dataclass
class Choice:
    """The engine that was chosen on the command line."""

    context: str | None = None
    """`--context`, which hints repeat."""


verbosity = Verbosity()
choice = Choice()
commands: set[str] = set()
"""The names of all commands; each file of a command adds its own (`cli.app`)."""


def degrade(stream: TextIO) -> None:
    """Let a stream print plain characters where its encoding lacks the right ones."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure and (stream.encoding or "").lower().replace("-", "") != "utf8":
        reconfigure(errors=_degraded.__name__)


def _degraded(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    plain = "".join(_PLAIN.get(one) or normalize("NFKD", one) for one in text)
    return plain.encode("ascii", "replace").decode("ascii"), error.end


codecs.register_error(_degraded.__name__, _degraded)


@cache
def console(*, stderr: bool = False) -> Console:
    """The console of a stream. Without a terminal lines are not cut, so that pipes get all of them."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 200
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def emit_json(data: Mapping[str, Any]) -> None:
    """Print one JSON document that begins with its `schema_version`."""
    emit_text(
        json.dumps(
            {"schema_version": SCHEMA_VERSION, **data},
            indent=2,
            default=str,
            ensure_ascii=sys.stdout.errors == _degraded.__name__,
        )
    )


def emit_text(text: str) -> None:
    """Print data that is plain text. A reader who goes away (`| head`) does not end the command."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        drop_stdout()


def emit_bytes(data: bytes) -> None:
    """Print a file's content as it is, whatever encoding text is printed in."""
    sys.stdout.flush()
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        drop_stdout()


def drop_stdout() -> None:
    """What is or will be printed goes nowhere, and Python does not try once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(*headers: str, title: str | None = None, keep: Collection[str] = ()) -> Table:
    """A table without frame; fill with `add_row`, print with `emit`.

    Cells wrap where the screen is narrow, except in the first column and in those called in `keep`.
    """
    from rich.table import Table

    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="bold cyan",
    )
    for header in headers:
        made.add_column(header, overflow="fold", no_wrap=header == headers[0] or header in keep)
    return made


def emit(renderable: Any = "") -> None:
    """Print something for people on stdout; into a pipe or file without trailing blanks."""
    screen = console()
    if screen.is_terminal:
        screen.print(renderable)
        return
    with screen.capture() as capture:
        screen.print(renderable)
    emit_text("\n".join(line.rstrip() for line in capture.get().splitlines()))


def emit_rows(
    headers: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    keep: Collection[str] = (),
) -> None:
    """Print rows as a table on stdout, or as records where the screen is too narrow for whole words."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    columns = [[header, *(row[at] for row in cells)] for at, header in enumerate(headers)]
    least = [
        max(_longest(cell, whole=at == 0 or headers[at] in keep) for cell in column)
        for at, column in enumerate(columns)
    ]
    most = [max(_longest(cell, whole=True) for cell in column) for column in columns]
    room = console().width - sum(least) - 2 * (len(headers) - 1)
    if room < 0:
        emit(_records(headers, cells, title))
        return
    made = table(*headers, title=title, keep=keep)
    # Rich shares out the width by what columns would like to have, and cuts words for that.
    for left, at in enumerate(sorted(range(len(headers)), key=lambda at: most[at] - least[at])):
        more = min(most[at] - least[at], room // (len(headers) - left))
        made.columns[at].width = least[at] + more
        room -= more
    for row in cells:
        made.add_row(*row)
    emit(made)


def _longest(cell: str, *, whole: bool) -> int:
    """The width below which a cell's words (whole: its lines) would be cut."""
    return max(map(len, cell.splitlines() if whole else cell.split()), default=0)


def _records(headers: Sequence[str], rows: Iterable[Sequence[str]], title: str | None) -> Text:
    """The cells of each row below its first, each behind its column's name; short ones share a line."""
    from rich.text import Text

    width = console().width
    lines = [Text(title, "bold")] if title else []
    for first, *rest in rows:
        named = [(header.lower(), cell) for header, cell in zip(headers[1:], rest, strict=True) if cell]
        lines.append(Text.assemble((first, "bold cyan"), *(f"  {cell}" for head, cell in named if not head)))
        shared = False
        for text in (f"  {head}: {cell}" for head, cell in named if head):
            if shared and "\n" not in text and len(lines[-1]) + len(text) <= width:
                lines[-1].append(text)
                continue
            wrapped = _wrapped(text, width)
            shared = len(wrapped) == 1
            lines += map(Text, wrapped)
    return Text("\n").join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    """Text in lines, words whole; all but the first are indented by four."""
    wrapper = TextWrapper(width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    first, *others = text.splitlines()
    return [line for part in (first, *(f"    {other}" for other in others)) for line in wrapper.wrap(part)]


def called() -> str:
    """The command as it was called, for a shell: `./tb` where that was the command, with its `--context`."""
    command = shlex.quote(os.environ.get("TESTBED_COMMAND") or "testbed")
    return f"{command} --context {shlex.quote(choice.context)}" if choice.context else command


def as_called(text: str) -> str:
    """A text for people that says `./tb COMMAND`, not `testbed COMMAND`, where it was called like that."""
    if (own := called()) == "testbed":
        return text
    names = "|".join(map(re.escape, commands))
    return re.sub(rf"(?<![\w./-])testbed(?= (?:{names})(?![\w-]))", lambda _: own, text)


def tell(text: str) -> None:
    """Print a line on stderr."""
    print(as_called(text), file=sys.stderr, flush=True)


def note(text: str, *, level: int = 0) -> None:
    """Say something on stderr: progress at level 0 (not with -q), details at 1 (-v) and 2 (-vv)."""
    if level <= verbosity.level:
        tell(text)


def colour(text: str, code: str) -> str:
    """Text in an ANSI colour if stderr is a terminal that wants colours (NO_COLOR is heeded)."""
    plain = not sys.stderr.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"
