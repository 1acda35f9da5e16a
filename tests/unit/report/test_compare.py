"""Two pieces of evidence side by side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sample_evidence import write_sample

from testbed.cli import main
from testbed.evidence.archive import packed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("compare") / "evidence")


@pytest.fixture
def other(folder: Path, tmp_path: Path) -> Path:
    for name in ("verdicts.json", "handoff.json"):
        shutil.copy(folder / name, tmp_path / name)
    return tmp_path


def change(folder: Path, name: str) -> Any:
    """The document of a file, which is written back by `keep`."""
    return json.loads((folder / name).read_text())


def keep(folder: Path, name: str, document: Any) -> None:
    (folder / name).write_text(json.dumps(document))


def test_the_same_is_the_same(folder: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(folder), str(other)]) == 0
    out = capsys.readouterr().out
    assert "0 of 4 verdicts differ" in out and "4: all the same" in out and "did not hold" not in out
    assert "mip-only" in out and "+0" in out


def test_a_verdict_that_differs(folder: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = change(other, "verdicts.json")
    claim = document["claims"][0]
    claim["verdict"], claim["reason"] = "refuted", "it leaks"
    claim["evidence"][0] |= {"held": False, "observed": "7 packets of 210"}
    claim["evidence"][1]["observed"] = "3 packets"
    keep(other, "verdicts.json", document)
    assert main(["compare", str(folder), str(other)]) == 1
    out = capsys.readouterr().out
    assert "1 of 4 verdicts differ" in out and "4: 1 decided differently, 1 observed differently" in out
    assert "first: held: 0 packets of 210" in out and "second: did not hold: 7 packets of 210" in out
    assert main(["compare", str(folder), str(other), "-o", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1 and document["differs"] is True
    (claim,) = [one for one in document["claims"] if not one["same"]]
    assert claim["verdicts"] == ["reproduced", "refuted"] and claim["reasons"] == ["", "it leaks"]
    assert [one["same"] for one in claim["findings"]] == [False, True, True, True]
    assert claim["findings"][0]["held"] == [True, False]


def test_a_verdict_without_other_findings_says_why(
    folder: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = change(other, "verdicts.json")
    document["claims"][0] |= {"verdict": "inconclusive", "reason": "mn did not come up"}
    keep(other, "verdicts.json", document)
    assert main(["compare", str(folder), str(other)]) == 1
    assert "second: inconclusive: mn did not come up" in capsys.readouterr().out


def test_what_only_one_has_is_no_difference(
    folder: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = change(other, "verdicts.json")
    document["claims"] = document["claims"][1:]
    keep(other, "verdicts.json", document)
    assert main(["compare", str(folder), str(other)]) == 0
    assert "only in the first: 1 claim" in capsys.readouterr().out


def test_expectations_that_are_there_twice_keep_their_order(
    folder: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (folder, other):
        document = change(place, "verdicts.json")
        claim = document["claims"][0]
        claim["evidence"] = [dict(claim["evidence"][0], observed=text) for text in ("a", "b")]
        if place == other:
            keep(place, "verdicts.json", document)
    assert main(["compare", str(other), str(other), "-o", "json"]) == 0
    (first, *_) = json.loads(capsys.readouterr().out)["claims"]
    assert [one["observed"] for one in first["findings"]] == [["a", "a"], ["b", "b"]]


def test_figures_of_hand_offs(folder: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = change(other, "handoff.json")
    document["fit"]["mip-only"] = {"k": 2.5, "constant_ms": 121.4}
    for move in document["runs"][0]["moves"]:
        move["outage_ms"] = 1000.0
    for move in document["runs"][1]["moves"]:
        move["outage_ms"] = None
    keep(other, "handoff.json", document)
    assert main(["compare", str(folder), str(other)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "mip-only 0.99 2.50 +1.51 21 121 +100" in out and "1000 +9" in out
    assert main(["compare", str(folder), str(other), "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["handoff"]
    assert found["lines"][1] == {"stack": "mip-only", "k": [0.99, 2.5], "constant_ms": [21.4, 121.4]}
    assert found["medians"][1]["median_ms"][1] is None


@pytest.mark.parametrize("suffix", [".zip", ".tar.zst"])
def test_archives(folder: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"evidence{suffix}"
    with packed(path) as inside:
        shutil.copytree(folder, inside, dirs_exist_ok=True)
    assert main(["compare", str(path), str(folder)]) == 0
    capsys.readouterr()
    assert main(["report", str(path)]) == 0
    page = tmp_path / "evidence.html"
    assert capsys.readouterr().out == f"{page}\n"
    assert "2.1-colocated-registers" in page.read_text() and 'href="claims' not in page.read_text()
    assert main(["report", str(path), "-w", "-"]) == 0
    path.write_bytes(path.read_bytes()[:-30])
    for command in (["report", str(path)], ["compare", str(folder), str(path)]):
        capsys.readouterr()
        assert main(command) == 2
        error = capsys.readouterr().err
        assert f"{path} is damaged or was cut short" in error and "Traceback" not in error


@pytest.mark.parametrize("suffix", [".zip", ".tar.zst"])
def test_a_fault_inside_an_archive_names_the_archive(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"evidence{suffix}"
    with packed(path) as inside:
        (inside / "topology.yaml").touch()
        (inside / ".testbed-evidence").touch()
    assert main(["report", str(path)]) == 2
    assert f"{path} has neither verdicts.json nor handoff.json" in capsys.readouterr().err
    with packed(path) as inside:
        keep(inside, "verdicts.json", {"schema_version": 3, "claims": []})
    assert main(["report", str(path)]) == 2
    assert f"{path}/verdicts.json: evidence of schema version 3" in capsys.readouterr().err


def test_nothing_in_common(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, "verdicts.json", {"schema_version": 2, "claims": []})
    assert main(["compare", str(folder), str(tmp_path)]) == 2
    assert "no claim and no measurement in common" in capsys.readouterr().err
    assert main(["compare", str(folder), str(tmp_path / "missing")]) == 2
    assert "there is no folder" in capsys.readouterr().err
