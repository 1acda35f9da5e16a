"""Options that commands share: how they are shown, completed, and refused."""

import re

import pytest

from testbed.cli import COMMANDS, main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "-o", "xml"], "--output xml: choose table, json or github"),
        (["matrix", "-o", "xml"], "--output xml: choose table, json or github"),
        (["graph", "plain-mip", "--format", "gif"], "--format gif: choose svg, png, pdf, mermaid or dot"),
        (["completion", "tcsh"], "tcsh: choose bash, zsh or fish"),
        (["measure", "delay", "plain-mip"], "delay: choose handoff"),
    ],
)
def test_a_word_that_is_none_of_a_few_is_refused_in_a_line(arguments, message, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_flags_show_no_value(command, capsys):
    main([*([command] if command else []), "--help"])
    text = capsys.readouterr().out
    assert "--help" in text and "<bool>" not in text
    assert re.search(r"--verbose +-v +Say more", text)


def test_a_few_words_are_shown_and_completed(capsys, monkeypatch):
    main(["list", "--help"])
    assert "table|json" in capsys.readouterr().out
    monkeypatch.setenv("_TESTBED_COMPLETE", "complete_fish")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "testbed matrix -o ")
    main([])
    assert capsys.readouterr().out.split() == ["table", "json", "github"]
