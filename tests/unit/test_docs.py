"""The documentation against what it speaks of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from reference import DOCUMENT, reference
from walkthrough import blocks, walk

from testbed.claim.vocabulary import words
from testbed.cli import COMMANDS, main
from testbed.topology.expand import TopologyFile
from testbed.topology.model import Network
from testbed.topology.roles import role_files

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"


@pytest.mark.parametrize("document", sorted(DOCS.glob("add-*.md")), ids=lambda one: one.stem)
def test_walk_throughs_can_be_walked(document: Path, tmp_path: Path) -> None:
    assert walk(document, tmp_path) >= 3


def test_a_walk_through_that_is_wrong_shows(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    text = "```yaml mine.yaml\nname: mine\n```\n```console\n$ testbed validate mine.yaml\n{}\n```\n"
    document.write_text(text.format("error: mine.yaml:1:1: `title` is missing\n…"))
    (block, _) = blocks(document.read_text())
    assert (block.language, block.name, block.text, block.line) == ("yaml", "mine.yaml", "name: mine\n", 2)
    (tmp_path / "right").mkdir()
    assert walk(document, tmp_path / "right") == 1
    document.write_text(text.format("mine.yaml: ok"))
    (tmp_path / "wrong").mkdir()
    with pytest.raises(AssertionError, match=r"document.md, block on line 5: testbed validate mine.yaml"):
        walk(document, tmp_path / "wrong")


def test_the_reference_is_current() -> None:
    assert main(["--version"]) == 0  # the commands have registered themselves
    assert DOCUMENT.read_text(encoding="utf-8") == reference(), "python tests/reference.py writes it anew"


def test_the_reference_has_every_word_role_and_command() -> None:
    text = reference()
    for name in (*role_files(), *(one.word for one in words())):
        assert f"\n### {name}\n" in text
    for name in COMMANDS:
        assert f"\n| `{name}` |" in text
    for key in (*TopologyFile.model_fields, *Network.model_fields):
        assert re.search(rf"^\| (\*\*)?{key}(\*\*)? \|", text, re.MULTILINE)
