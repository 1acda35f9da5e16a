"""What a narrow terminal gets: records in the place of a table."""

from __future__ import annotations

import pytest

from testbed.cli.output import console, emit_rows


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    console.cache_clear()


def printed(capsys: pytest.CaptureFixture[str], *row: str) -> list[str]:
    emit_rows(("NAME", "", "STACK", "OPTIONS", "MEANING"), [row])
    console.cache_clear()
    return capsys.readouterr().out.splitlines()


def test_short_cells_share_a_line_and_long_ones_wrap(
    narrow: None, capsys: pytest.CaptureFixture[str]
) -> None:
    option, meaning = "network.internet.loss=0%", "The order in which IPsec and MIPv4 are stacked"
    assert printed(capsys, "mobike", "OK", "mip", option, meaning) == [
        "mobike  OK",
        "  stack: mip",
        "  options: network.internet.loss=0%",
        "  meaning: The order in which IPsec and",
        "    MIPv4 are stacked",
    ]
    assert printed(capsys, "mobike", "", "mip", "a=1", option) == [
        "mobike",
        "  stack: mip  options: a=1",
        "  meaning: network.internet.loss=0%",
    ]


def test_a_cell_of_several_lines_keeps_them(narrow: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "mn", "", "internet 203.0.113.30\nairport 198.51.100.129", "", "b" * 29) == [
        "mn",
        "  stack: internet 203.0.113.30",
        "    airport 198.51.100.129",
        "  meaning: " + "b" * 29,
    ]
