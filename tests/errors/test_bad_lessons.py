"""Every bad lesson in `lessons`, beside the exact text that says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import ExitCode, TestbedError
from testbed.lesson.load import load_lesson

HERE = Path(__file__).parent / "lessons"
CASES = sorted(file.parent for file in HERE.glob("*/lesson.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_error_text(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    with pytest.raises(TestbedError) as caught:
        load_lesson(f"./{case.name}")
    assert f"{caught.value}\n" == (case / "expected.txt").read_text(encoding="utf-8")
    assert caught.value.exit_code == ExitCode.TOPOLOGY
