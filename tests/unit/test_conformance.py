"""The page of requirements against its rows, and the rows against the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance import DOCUMENT, ROWS, STATUS, counts, page, requirements, test_functions, unknown

CHECKOUT = Path(__file__).parents[2]


def test_the_page_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == page(), "python tests/conformance.py writes it anew"


def test_every_row_names_tests_that_exist() -> None:
    known = test_functions()
    rows = requirements(ROWS.read_text(encoding="utf-8"))
    assert unknown(rows, known) == []
    named = {test for row in rows for test in row.tests}
    assert {test: known[test] for test in named if len(known[test]) > 1} == {}


def test_a_row_that_names_no_test_shows() -> None:
    text = ROWS.read_text(encoding="utf-8")
    name = "mip_pace::test_three_solicitations_at_the_initial_rate_and_no_more"
    rows = requirements(text.replace(name, "mip_pace::test_four", 1))
    assert unknown(rows, test_functions()) == ["RFC 5944 §2.4: there is no test mip_pace::test_four"]


@pytest.mark.parametrize(
    "row",
    [
        "{MUST: do, by: []}",
        "{MUST: do}",
        "{MUST: do, untested: ''}",
        "{MUST: do, by: [a::test_b], missing: why}",
        "{WILL: do, by: [a::test_b]}",
    ],
)
def test_a_row_that_decides_nothing_is_refused(row: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 1 §2: expected a level"):
        requirements(f"[{{rfc: 1, sections: {{'2': [{row}]}}}}]")


def test_the_counts_by_rfc_are_those_of_all_rows() -> None:
    rows = requirements(ROWS.read_text(encoding="utf-8"))
    table = [line.strip("| ").split(" | ") for line in page().split("## RFC")[0].splitlines() if "|" in line]
    totals = [sum(map(int, column)) for column in zip(*(row[1:] for row in table[2:]), strict=True)]
    assert totals == [len(rows), *(sum(row.status == each for row in rows) for each in STATUS)]
    assert {int(row[0]) for row in table[2:]} == {row.rfc for row in rows}


def test_the_readme_has_the_counts() -> None:
    text = " ".join((CHECKOUT / "README.md").read_text(encoding="utf-8").split())
    assert counts(requirements(ROWS.read_text(encoding="utf-8"))) in text
