"""Every bad topology in this folder, beside the exact text that says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import ExitCode, TestbedError
from testbed.topology.load import load_topology

HERE = Path(__file__).parent
CASES = sorted(HERE.glob("*.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_error_text(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    with pytest.raises(TestbedError) as caught:
        load_topology(case.name)
    assert f"{caught.value}\n" == case.with_suffix(".txt").read_text(encoding="utf-8")
    assert caught.value.exit_code == ExitCode.TOPOLOGY


def test_every_text_has_its_topology() -> None:
    assert {text.stem for text in HERE.glob("*.txt")} == {case.stem for case in CASES}
