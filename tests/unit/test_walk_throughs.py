"""The walk-throughs in docs/ are walked: files are written, commands run, and what comes out is as printed.

A code block whose first line is a comment with a path is a file. Those below `out/` are what a command made;
the others are written before the first command runs. Lines that begin with `$ ./tb` are commands, with what
they print below them. `…` alone in a line stands for any lines.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from testbed.cli import main

DOCS = Path(__file__).parents[2] / "docs"
WALKS = sorted(DOCS.glob("add-a-*.md"))
ENGINELESS = {"validate", "render", "graph", "show"}

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"(?:#|<!--|\{#|//) ([\w./-]+\.[\w.]+)(?: -->| #\})?\n")


def like(printed: str) -> re.Pattern[str]:
    """What is printed in a walk-through, where `…` is any number of lines; columns may be wider."""
    lines = [
        r"(?:.*\n)*?" if line == "…" else r" {2,}".join(map(re.escape, re.split(" {2,}", line))) + r" *\n"
        for line in printed.splitlines()
    ]
    return re.compile("".join(lines))


def files(text: str) -> dict[str, str]:
    """Path → content, the line with the path included."""
    blocks = [block[2] for block in _BLOCK.finditer(text)]
    return {found[1]: block for block in blocks if (found := _PATH.match(block))}


def commands(text: str) -> list[tuple[list[str], str]]:
    """The words of each command, and what it prints."""
    found = []
    for block in _BLOCK.finditer(text):
        for command in re.split(r"^\$ ", block[2], flags=re.MULTILINE)[1:]:
            line, _, printed = command.partition("\n")
            found.append((shlex.split(line), printed))
    return found


@pytest.fixture(params=WALKS, ids=lambda walk: walk.stem)
def walk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A walk-through whose files are in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    text: str = request.param.read_text(encoding="utf-8")
    for path, content in files(text).items():
        if not path.startswith("out/"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(content, encoding="utf-8")
    return text


def test_a_walk_through_does_what_it_says(walk: str, capsys: pytest.CaptureFixture[str]) -> None:
    ran = 0
    for (program, *words), printed in commands(walk):
        assert program == "./tb"
        if words[0] not in ENGINELESS:
            continue
        main(words)
        streams = capsys.readouterr()
        assert like(printed).fullmatch(streams.out + streams.err), (words, streams.out + streams.err)
        ran += 1
    assert ran
    for path, content in files(walk).items():
        if path.startswith("out/"):
            expected = content.partition("\n")[2]
            assert like(expected).fullmatch(Path(path).read_text(encoding="utf-8")), path


def test_a_role_is_one_manifest_and_its_templates() -> None:
    """Nothing else of the product changes for it."""
    written = [path for path in files((DOCS / "add-a-role.md").read_text(encoding="utf-8")) if "/" in path]
    mine = [path for path in written if not path.startswith("out/")]
    manifests = [path for path in mine if path.startswith("my/roles/")]
    text = "".join(files((DOCS / "add-a-role.md").read_text(encoding="utf-8"))[path] for path in manifests)
    templates = [path.removeprefix("my/") for path in mine if path not in manifests]
    assert len(manifests) == len(re.findall(r"^name: ", text, re.MULTILINE)) == 3
    assert all(f"template: {path}," in text for path in templates)


@pytest.mark.parametrize(
    ("printed", "came", "fits"),
    [
        ("a\n…\nc\n", "a\nb\nb\nc\n", True),
        ("a\n…\n", "a\n", True),
        ("a\nc\n", "a\nb\nc\n", False),
        ("a.c\n", "abc\n", False),
        ("…\nb\n", "a\nc\n", False),
    ],
)
def test_what_is_printed_has_to_be_so(printed: str, came: str, fits: bool) -> None:
    assert bool(like(printed).fullmatch(came)) is fits
