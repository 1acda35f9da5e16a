"""The documentation against what it speaks of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from reference import DOCUMENT, reference
from walkthrough import blocks, like, walk

from testbed.claim.vocabulary import words
from testbed.cli import COMMANDS, main
from testbed.topology.expand import TopologyFile
from testbed.topology.model import Network
from testbed.topology.roles import role_files

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"


@pytest.mark.parametrize(
    "document", [*sorted(DOCS.glob("add-*.md")), DOCS / "lessons.md"], ids=lambda one: one.stem
)
def test_walk_throughs_can_be_walked(document: Path, tmp_path: Path) -> None:
    assert walk(document, tmp_path) >= 3


def test_a_role_is_one_manifest_and_its_templates() -> None:
    """Nothing else of the product changes for it."""
    document = blocks((DOCS / "add-a-role.md").read_text(encoding="utf-8"))
    mine = {block.file: block.text for block in document if block.file.startswith("my/")}
    manifests = {path: text for path, text in mine.items() if path.startswith("my/roles/")}
    text = "".join(manifests.values())
    assert len(manifests) == len(re.findall(r"^name: ", text, re.MULTILINE)) == 3
    assert all(f"template: {path.removeprefix('my/')}," in text for path in mine if path not in manifests)


def test_a_walk_through_that_is_wrong_shows(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    text = "```yaml\n# mine.yaml\nname: mine\n```\n```console\n$ ./tb validate mine.yaml\n{}\n```\n"
    document.write_text(text.format("error: mine.yaml:2:1: `title` is missing\n…"))
    (block, _) = blocks(document.read_text())
    assert (block.language, block.file, block.line) == ("yaml", "mine.yaml", 2)
    (tmp_path / "right").mkdir()
    assert walk(document, tmp_path / "right") == 1
    document.write_text(text.format("mine.yaml: ok"))
    (tmp_path / "wrong").mkdir()
    with pytest.raises(
        AssertionError, match=r"document.md, block on line 6: ./tb validate mine.yaml printed"
    ):
        walk(document, tmp_path / "wrong")


@pytest.mark.parametrize(
    ("printed", "came", "fits"),
    [
        ("a\n…\nc\n", "a\nb\nb\nc\n", True),
        ("a\n…\n", "a\n", True),
        ("a  b\n", "a     b\n", True),
        ("a\nc\n", "a\nb\nc\n", False),
        ("a.c\n", "abc\n", False),
        ("…\nb\n", "a\nc\n", False),
    ],
)
def test_what_is_printed_has_to_be_so(printed: str, came: str, fits: bool) -> None:
    assert bool(like(printed).fullmatch(came)) is fits


def test_the_reference_is_current() -> None:
    assert main(["--version"]) == 0  # the commands have registered themselves
    assert DOCUMENT.read_text(encoding="utf-8") == reference(), "python tests/reference.py writes it anew"


def test_the_reference_has_every_word_role_and_command() -> None:
    text = reference()
    for name in (*role_files(), *(one.word for one in words())):
        assert f"\n### {name}\n" in text
    for name in COMMANDS:
        assert f"\n| `{name}` |" in text or f"\n| `{name} " in text
    for key in (*TopologyFile.model_fields, *Network.model_fields):
        assert re.search(rf"^\| (\*\*)?{key}(\*\*)? \|", text, re.MULTILINE)
