"""Texts in Markdown, as a terminal shows them: lines that wrap, and commands that can be copied whole."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from rich.console import RenderResult
from rich.markdown import CodeBlock, Heading, Markdown
from rich.padding import Padding
from rich.text import Text

from testbed.cli.output import as_called, console, emit_text

_WIDEST: Final = 100


class _Code(CodeBlock):
    """Indented, without a background: what is copied has no blanks at its end."""

    def __rich_console__(self, *_: Any) -> RenderResult:
        for line in str(self.text).rstrip().splitlines():
            yield Text("    " + line, style="bold", no_wrap=True, overflow="ignore")


class _Heading(Heading):
    """On the left, without a frame."""

    def __rich_console__(self, *_: Any) -> RenderResult:
        text = self.text.copy()
        text.stylize("bold cyan")
        yield Text("")
        yield text


class _Markdown(Markdown):
    elements: ClassVar[dict[str, Any]] = {
        **Markdown.elements,
        "fence": _Code,
        "code_block": _Code,
        "heading_open": _Heading,
    }


def emit_markdown(text: str) -> None:
    """Print Markdown; into a pipe or a file as it was written."""
    screen = console()
    if screen.is_terminal:
        width = min(screen.width, _WIDEST)
        screen.print(Padding(_Markdown(as_called(text)), (0, 0, 1, 0)), width=width)
    else:
        emit_text(as_called(text).rstrip() + "\n")
