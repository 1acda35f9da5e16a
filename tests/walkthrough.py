"""Walks the walk-throughs of docs/: what a reader would write and type, in a copy of the checkout.

A block whose first line is a comment with a path is a file, written there; below `out/` it is what a command
made, and compared. A `console` block has commands behind `$ ` and what they print, where a line `…` stands
for any number of lines, and columns may be wider. Nothing here needs an engine: a command that does is shown
in a block of another kind.
"""

from __future__ import annotations

import json
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
COMPILING = shutil.ignore_patterns("*.pyc.*")
"""What Python writes at this moment, in other tests' processes; gone when it is copied."""
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"(?:#|<!--|\{#|//) ([\w./-]+\.[\w.]+)(?: -->| #\})?\n")


@dataclass(frozen=True)
class Block:
    """One fenced block of a document, and the line on which its content begins."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str:
        """The path of the file that it is; empty where it is none."""
        found = _PATH.match(self.text)
        return found[1] if found else ""

    @property
    def commands(self) -> Iterator[tuple[str, str]]:
        """Each command, and what it prints."""
        for one in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, printed = one.partition("\n")
            yield command, printed


def blocks(document: str) -> Iterator[Block]:
    """The blocks of a document, in order."""
    for one in _BLOCK.finditer(document):
        yield Block(one[1], one[2], document.count("\n", 0, one.start(2)) + 1)


def like(printed: str) -> re.Pattern[str]:
    """What is printed in a walk-through."""
    lines = [
        r"(?:.*\n)*?" if line == "…" else r" {2,}".join(map(re.escape, re.split(" {2,}", line))) + r" *\n"
        for line in printed.splitlines()
    ]
    return re.compile("".join(lines))


def walk(document: Path, folder: Path, checkout: Path = CHECKOUT) -> int:
    """Do what a document says in an empty folder; return how many commands were run.

    Raises AssertionError where something else comes out.
    """
    for name in ("testbed", "topologies", "templates", "images", "lessons"):
        shutil.copytree(checkout / name, folder / name, ignore=COMPILING)  # with what Python compiled
    ran = 0
    for block in blocks(document.read_text(encoding="utf-8")):
        where = f"{document.name}, block on line {block.line}"
        file = folder / block.file
        if block.file.startswith("out/"):
            assert like(block.text.partition("\n")[2]).fullmatch(file.read_text(encoding="utf-8")), where
        elif block.file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            commands = list(block.commands)
            for (command, printed), came in zip(
                commands, _run([one for one, _ in commands], folder), strict=True
            ):
                assert like(printed).fullmatch(came), f"{where}: {command} printed\n{came}"
                ran += 1
    return ran


_COMMANDS = """
import json, shutil, sys
from testbed.cli import main
for program, *arguments in json.load(sys.stdin):
    code = 0
    if program == "cp":
        shutil.copy(*arguments)
    else:
        code = main(arguments)
    print(end=f"\\0{code}\\0", flush=True)
"""
"""Commands one after the other in one process, which takes longer to start than each of them to run."""


def _run(commands: list[str], folder: Path) -> Iterator[str]:
    """What each command prints."""
    split = [shlex.split(command) for command in commands]
    for program, *_ in split:
        assert program in ("./tb", "cp"), f"a walk-through runs ./tb and cp, not {program}"
    done = subprocess.run(
        [sys.executable, "-c", _COMMANDS],
        cwd=folder,
        env={**os.environ, "COLUMNS": "140", "PYTHONPATH": str(folder)},
        input=json.dumps(split),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    *said, end = done.stdout.split("\0")
    assert not end and len(said) == 2 * len(commands), done.stdout
    for command, came, code in zip(commands, said[::2], said[1::2], strict=True):
        assert (code != "0") == ("error:" in came), f"{command}: {code}\n{came}"
        yield came
