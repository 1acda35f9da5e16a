"""Writes docs/conformance.md: the requirements of the RFCs, and the test that decides each.

    python tests/conformance.py

The rows are those of tests/conformance.yaml. A test holds the page against what is written, and every row
against the tests.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import plain_yaml

TESTS = Path(__file__).parent
ROWS = TESTS / "conformance.yaml"
DOCUMENT = TESTS.parent / "docs" / "conformance.md"
LEVELS = ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "REQUIRED")
STATUS = DECIDED, UNTESTED, MISSING = "by", "untested", "missing"


@dataclass(frozen=True)
class Requirement:
    """One row: what a section requires, and how it is met."""

    rfc: int
    section: str
    level: str
    text: str
    tests: tuple[str, ...] = ()
    untested: str = ""
    missing: str = ""

    @property
    def status(self) -> str:
        """by, untested or missing."""
        return DECIDED if self.tests else UNTESTED if self.untested else MISSING


@cache
def _documents(text: str) -> list[dict[str, Any]]:
    """The RFCs with their rows."""
    documents: list[dict[str, Any]] = plain_yaml.load(text)
    return documents


def requirements(text: str) -> list[Requirement]:
    """Read the rows; raises ValueError for one that is none."""
    return [
        _requirement(document["rfc"], str(section), row)
        for document in _documents(text)
        for section, rows in document["sections"].items()
        for row in rows
    ]


def _requirement(rfc: int, section: str, row: dict[str, Any]) -> Requirement:
    level = [key for key in row if key in LEVELS]
    status = [key for key in row if key in (DECIDED, UNTESTED, MISSING)]
    if len(level) != 1 or len(status) != 1 or len(row) != 2 or not row[status[0]]:
        raise ValueError(f"RFC {rfc} §{section}: expected a level and one of by, untested, missing: {row}")
    tests = tuple(row[DECIDED]) if status == [DECIDED] else ()
    return Requirement(
        rfc, section, level[0], row[level[0]], tests, row.get(UNTESTED, ""), row.get(MISSING, "")
    )


@cache
def test_functions() -> dict[str, list[str]]:
    """The names of all tests, FILE::NAME as in a row, with the files that have one of that name."""
    found: dict[str, list[str]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                name = f"{file.stem.removeprefix('test_')}::{node.name}"
                found.setdefault(name, []).append(str(file.relative_to(TESTS)))
    return found


test_functions.__test__ = False  # type: ignore[attr-defined]


def unknown(rows: list[Requirement], known: dict[str, list[str]]) -> list[str]:
    """Rows that name a test that does not exist, in words."""
    return [
        f"RFC {row.rfc} §{row.section}: there is no test {test}"
        for row in rows
        for test in row.tests
        if test not in known
    ]


def counts(rows: list[Requirement]) -> str:
    """How many requirements are met how, in one sentence."""
    number = Counter(row.status for row in rows)
    return (
        f"Of {len(rows)} requirements {number[DECIDED]} have a test that decides them, "
        f"{number[UNTESTED]} are met without one, and {number[MISSING]} are not implemented."
    )


def page() -> str:
    """The whole document."""
    text = ROWS.read_text(encoding="utf-8")
    return "\n".join(_page(text)) + "\n"


def _page(text: str) -> Iterator[str]:
    rows, known = requirements(text), test_functions()
    yield "# Conformance"
    yield ""
    yield "`python tests/conformance.py` writes this page from `tests/conformance.yaml`: requirements in our"
    yield "own words, in the order of the RFC. Regional registration, mobile routers and Simple IP are out of"
    yield "scope."
    yield ""
    yield counts(rows)
    yield ""
    yield from _table(rows)
    for document in _documents(text):
        yield from ("", f"## RFC {document['rfc']}: {document['title']}, {document['through']}", "")
        yield "| § | level | requirement | decided by |"
        yield "|---|---|---|---|"
        for row in rows:
            if row.rfc == document["rfc"]:
                yield f"| {row.section} | {row.level} | {row.text} | {_decision(row, known)} |"


def _table(rows: list[Requirement]) -> Iterator[str]:
    """The counts by RFC."""
    yield "| RFC | requirements | with a test | without a test | not implemented |"
    yield "|---|---|---|---|---|"
    for rfc in dict.fromkeys(row.rfc for row in rows):
        number = Counter(row.status for row in rows if row.rfc == rfc)
        cells = (number.total(), number[DECIDED], number[UNTESTED], number[MISSING])
        yield f"| {rfc} | {' | '.join(map(str, cells))} |"


def _decision(row: Requirement, known: dict[str, list[str]]) -> str:
    if row.status == MISSING:
        return f"not implemented: {row.missing}"
    if row.status == UNTESTED:
        return f"no test: {row.untested}"
    links = (
        f"[{name.partition('::')[2].removeprefix('test_').replace('_', ' ')}](../tests/{known[name][0]})"
        for name in row.tests
    )
    return "; ".join(links)


if __name__ == "__main__":
    if wrong := unknown(requirements(ROWS.read_text(encoding="utf-8")), test_functions()):
        sys.exit("\n".join(wrong))
    DOCUMENT.write_text(page(), encoding="utf-8")
