"""`testbed verify` as a command: what it prints and what it ends with."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import pytest

from testbed.cli import main
from testbed.engine import image, provision
from testbed.evidence.archive import opened
from testbed.evidence.verdicts import LabFacts
from testbed.experiment.claims.verdict import ClaimResult, Finding, RunResult, verdicts_of
from testbed.experiment.claims.verify import Verification

GOOD = RunResult([Finding("it is so", True, "seen")])
BAD = RunResult([Finding("it is so", False, "not seen")])

SMALL = "nat"
"""A topology with few claims, where it does not matter which they are."""


@pytest.fixture
def decided(monkeypatch):
    """Claims come out as told: id → what the run came to."""
    results = {}

    def verify(self, scenario, labs):
        made = [
            ClaimResult(name, claim.says, claim.source, {}, results.get(name, GOOD), GOOD)
            for name, claim in scenario.claims.items()
        ]
        return verdicts_of(scenario.loaded.name, {"verify-1": LabFacts()}, made)

    monkeypatch.setattr(Verification, "verify", verify)
    monkeypatch.setattr(provision, "reach_engine", lambda *_: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(image, "ensure_node_image", lambda *_, **__: SimpleNamespace(name="image"))
    return results


def test_all_reproduced(decided, capsys):
    assert main(["verify", "scenario-2.1"]) == 0
    out = capsys.readouterr().out
    assert "14 of 14 reproduced" in out and "2.1-gateway-guards" in out


def test_one_refuted(decided, capsys, tmp_path):
    decided["2.1-fa-mn-deaf"] = BAD
    junit = tmp_path / "junit.xml"
    assert main(["verify", "scenario-2.1", "--junit", str(junit)]) == 1
    assert "2.1-fa-mn-deaf is refuted: it is so: not seen" in capsys.readouterr().out
    suite = ET.parse(junit).getroot().find("testsuite")
    assert suite.get("failures") == "1" and suite.get("tests") == "14"


def test_only_what_was_asked_for_counts(decided, capsys):
    decided["2.1-fa-mn-deaf"] = BAD
    assert main(["verify", "scenario-2.1", "--claim", "2.1-gateway-guards", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["schema_version", "scenario", "backends", "claims"]
    assert [one["id"] for one in document["claims"]] == ["2.1-gateway-guards"]


def test_inconclusive_is_no_success(decided):
    decided["2.1-gateway-guards"] = RunResult(error="the lab fell over")
    assert main(["verify", "scenario-2.1", "--claim", "2.1-gateway-guards"]) == 1


def test_mistakes_of_the_user(decided, capsys):
    assert main(["verify", "scenario-2.1", "--claim", "2.1-gateway-guard"]) == 2
    assert "did you mean 2.1-gateway-guards?" in capsys.readouterr().err
    assert main(["verify", "plain-mip"]) == 2
    assert "makes no claims" in capsys.readouterr().err
    assert main(["verify", "scenario-2.1", "--set", "node.gw.passes=nothing"]) == 2


def test_labs_that_are_kept_are_named(decided, capsys):
    assert main(["verify", SMALL, "--keep"]) == 0
    assert "left up: verify-1" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["verify", SMALL], ["matrix", "--scenario", SMALL]])
def test_what_cannot_be_written_is_said_before_anything_is_decided(
    decided, command, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(Verification, "verify", None)  # would be an error of another kind
    monkeypatch.setattr(Verification, "verify_all", None)
    assert main([*command, "--junit", str(tmp_path / "no" / "junit.xml")]) == 2
    assert "junit.xml: No such file or directory" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main([*command, "--evidence", str(tmp_path / "file" / "evidence")]) == 2
    assert "evidence: Not a directory" in capsys.readouterr().err


def test_the_way_to_the_report_can_be_pasted(decided, capsys, tmp_path):
    assert main(["verify", SMALL, "--evidence", str(tmp_path / "an evidence")]) == 0
    assert f"testbed report '{tmp_path}/an evidence' makes" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".zip", ".tar.zst"])
def test_evidence_as_one_file(decided, capsys, monkeypatch, tmp_path, suffix):
    def interrupted(self, scenario, labs):
        self.evidence.write_topology(scenario.loaded.text())
        raise KeyboardInterrupt

    file = tmp_path / f"e{suffix}"
    with monkeypatch.context() as patched:
        patched.setattr(Verification, "verify", interrupted)
        assert main(["verify", SMALL, "--evidence", str(file)]) == 130
    assert [one.name for one in tmp_path.iterdir()] == [file.name]
    with opened(file) as folder:
        assert {one.name for one in folder.iterdir()} == {".testbed-evidence", "topology.yaml"}
    assert main(["verify", SMALL, "--evidence", str(file)]) == 0
    assert f"evidence in {file}" in capsys.readouterr().err
    assert main(["verify", SMALL, "--evidence", str(tmp_path / "e.tar.gz")]) == 2
    assert [one.name for one in tmp_path.iterdir()] == [file.name]


def test_an_interrupted_verification_can_be_run_again_into_the_same_folder(
    decided, capsys, monkeypatch, tmp_path
):
    def interrupted(self, scenario, labs):
        self.evidence.write_topology(scenario.loaded.text())
        raise KeyboardInterrupt

    arguments = ["verify", SMALL, "--evidence", str(tmp_path / "evidence"), "--junit"]
    junit = tmp_path / "junit.xml"
    with monkeypatch.context() as patched:
        patched.setattr(Verification, "verify", interrupted)
        assert main([*arguments, str(junit)]) == 130
    assert not junit.exists()
    assert main([*arguments, str(junit)]) == 0 and junit.exists()
    strange = tmp_path / "strange"
    strange.mkdir()
    Path(strange, "topology.yaml").touch()
    assert main(["verify", SMALL, "--evidence", str(strange)]) == 2
    assert "holds no evidence" in capsys.readouterr().err


def test_with_a_baseline_only_what_is_worse_counts(decided, capsys, tmp_path):
    before = tmp_path / "before"
    before.mkdir()
    decided["2.1-fa-mn-deaf"] = BAD
    assert main(["verify", "scenario-2.1", "-o", "json"]) == 1
    (before / "verdicts.json").write_text(capsys.readouterr().out)
    assert main(["verify", "scenario-2.1", "--baseline", str(before)]) == 0
    assert "nothing is worse than in the baseline" in capsys.readouterr().err
    decided["2.1-gateway-guards"] = RunResult(error="the lab fell over")
    assert main(["verify", "scenario-2.1", "--baseline", str(before)]) == 1
    line = "worse: 2.1-gateway-guards is inconclusive; in the baseline it is reproduced"
    assert line in capsys.readouterr().err
    assert main(["verify", "scenario-2.1", "--baseline", str(tmp_path / "none.zip")]) == 2
    (tmp_path / "handoff.json").write_text('{"schema_version": 1, "scenario": "s", "runs": []}')
    assert main(["verify", "scenario-2.1", "--baseline", str(tmp_path)]) == 2
    assert "has no verdicts" in capsys.readouterr().err


def test_parts_for_several_machines(decided, capsys):
    decided["2.1-fa-mn-deaf"] = BAD
    codes, found = [], []
    for part in ("1/3", "2/3", "3/3"):
        codes.append(main(["verify", "scenario-2.1", "--shard", part, "-o", "json"]))
        found += [one["id"] for one in json.loads(capsys.readouterr().out)["claims"]]
    assert sorted(codes) == [0, 0, 1] and len(found) == len(set(found)) == 14
    assert main(["verify", "scenario-2.1", "--claim", "2.1-fa-mn-deaf", "--shard", "3/3"]) == 2
    assert "no claim is in this part" in capsys.readouterr().err
