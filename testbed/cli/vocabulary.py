"""`testbed vocabulary`: the words that claims are written in, from the classes that read them."""

from __future__ import annotations

from typing import Annotated

import typer

from testbed.cli.app import CLAIMS, command
from testbed.cli.complete import complete_word
from testbed.cli.options import Output
from testbed.cli.output import Format, emit_json, emit_text


@command("vocabulary", panel=CLAIMS)
def vocabulary(
    word: Annotated[
        str | None,
        typer.Argument(metavar="WORD", help="Only this word.", autocompletion=complete_word),
    ] = None,
    output: Output = Format.table,
) -> None:
    """Explain the steps and expectations that claims in topology files are written in."""
    from testbed.claim.vocabulary import render, words
    from testbed.errors import UsageError, did_you_mean

    chosen = [one for one in words() if word is None or one.word == word]
    if not chosen:
        known = [one.word for one in words()]
        raise UsageError(f"no step or expectation is called {word}", hint=did_you_mean(str(word), known))
    if output is Format.json:
        emit_json({"words": [one.to_json() for one in chosen]})
    else:
        emit_text(render(chosen))
