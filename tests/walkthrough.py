"""Runs the walk-throughs of docs/: what a reader would write and type, in a copy of the checkout.

Two kinds of blocks count, all others are for reading only:

    ```yaml train.yaml      a file of this name is written; any language that is followed by a name
    ```console              `$ testbed …` and `$ cp A B` are run; the lines below are what is printed, of
                            which a line `…` stands for any number of lines

Nothing here needs an engine: a command that does is shown in a block of another kind.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block of a document, and the line on which its content begins."""

    language: str
    name: str
    text: str
    line: int


def blocks(document: str) -> Iterator[Block]:
    """The blocks of a document, in order."""
    for one in _BLOCK.finditer(document):
        yield Block(one[1], one[2] or "", one[3], document.count("\n", 0, one.start(3)) + 1)


def walk(document: Path, folder: Path) -> int:
    """Do what a document says in an empty folder; return how many commands were run.

    Raises AssertionError where a command prints something else.
    """
    for name in ("testbed", "topologies", "templates", "images"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / name, folder / name, ignore=ignored)
    run = 0
    for block in blocks(document.read_text(encoding="utf-8")):
        if block.name:
            file = folder / block.name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            for command, expected in _commands(block.text):
                printed = _run(command, folder)
                where = f"{document.name}, block on line {block.line}: {command}"
                assert re.fullmatch(_pattern(expected), printed), f"{where} printed\n{printed}"
                run += 1
    return run


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    for one in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *expected = one.rstrip("\n").split("\n")
        yield command, expected


def _pattern(expected: list[str]) -> str:
    return "".join(r"(?:.*\n)*?" if line == "…" else re.escape(line) + r" *\n" for line in expected)


def _run(command: str, folder: Path) -> str:
    program, *arguments = shlex.split(command)
    if program == "cp":
        shutil.copy(folder / arguments[0], folder / arguments[1])
        return ""
    assert program == "testbed", f"a walk-through runs testbed and cp, not {program}"
    done = subprocess.run(
        [sys.executable, "-m", "testbed", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "100", "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode != 0) == ("error:" in done.stdout), f"{command}: {done.returncode}"
    return done.stdout
