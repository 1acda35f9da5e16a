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
from collections.abc import Iterable, Iterator
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
    for part in _parts(blocks(document.read_text(encoding="utf-8"))):
        ran += _walk_part(part, document.name, folder)
    return ran


def _parts(document: Iterable[Block]) -> Iterator[list[Block]]:
    """The blocks, parted before each that is code: what a process has imported, it does not import again."""
    part: list[Block] = []
    for block in document:
        if block.file.endswith(".py") and part:
            yield part
            part = []
        part.append(block)
    yield part


def _walk_part(part: list[Block], name: str, folder: Path) -> int:
    """Write and type what the blocks have, in their order; return how many commands were run."""
    doing: list[list[str]] = []
    wanted: list[tuple[str, str]] = []  # where it stands, and what is to come out
    for block in part:
        where = f"{name}, block on line {block.line}"
        if block.file.startswith("out/"):
            doing.append(["read", block.file])
            wanted.append((where, block.text.partition("\n")[2]))
        elif block.file:
            doing.append(["write", block.file, block.text])
            wanted.append((where, ""))
        elif block.language == "console":
            for command, printed in block.commands:
                program, *arguments = shlex.split(command)
                assert program in ("./tb", "cp"), f"a walk-through runs ./tb and cp, not {program}"
                doing.append([program, *arguments])
                wanted.append((f"{where}: {command}", printed))
    for (where, printed), came in zip(wanted, do(doing, folder), strict=True):
        assert like(printed).fullmatch(came), f"{where} printed\n{came}"
    return sum(program in ("./tb", "cp") for program, *_ in doing)


_DOING = """
import json, shutil, sys
from pathlib import Path
from testbed.cli import main
for program, *arguments in json.load(sys.stdin):
    code = 0
    if program == "cp":
        shutil.copy(*arguments)
    elif program == "read":
        print(end=Path(arguments[0]).read_text(encoding="utf-8"))
    elif program == "write":
        file = Path(arguments[0])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(arguments[1], encoding="utf-8")
    else:
        code = main(arguments)
    print(end=f"\\0{code}\\0", flush=True)
"""
"""All of it in one process, which takes longer to start than each command to run."""


def do(doing: Iterable[list[str]], folder: Path) -> Iterator[str]:
    """Do one after the other with the product of a folder; return what each printed.

    Each is `./tb ARGUMENTS`, `cp FROM TO`, `write FILE TEXT` or `read FILE`.
    """
    doing = list(doing)
    done = subprocess.run(
        [sys.executable, "-c", _DOING],
        cwd=folder,
        env={**os.environ, "COLUMNS": "140", "PYTHONPATH": str(folder)},
        input=json.dumps(doing),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    *said, end = done.stdout.split("\0")
    assert not end and len(said) == 2 * len(doing), done.stdout
    for (program, *arguments), came, code in zip(doing, said[::2], said[1::2], strict=True):
        if program == "./tb":
            assert (code != "0") == ("error:" in came), f"{arguments}: {code}\n{came}"
        yield came
