"""`testbed matrix` as a command: what it prints, where, and what it ends with."""

import json
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest

from testbed.cli import main
from testbed.engine import image, provision
from testbed.evidence.verdicts import KINDS, LabFacts
from testbed.experiment.claims.plan import Scenario
from testbed.experiment.claims.verdict import Finding, RunResult, verdicts_of
from testbed.experiment.claims.verify import Verification, claim_results

GOOD = RunResult([Finding("it is so", True, "seen")])
BAD = RunResult([Finding("it is so", False, "not seen")])


@pytest.fixture
def decided(monkeypatch):
    """Claims come out as told: id → what the run came to; `asked` is what the verification was given."""
    told = SimpleNamespace(results={}, asked=None)

    def verify_all(self, scenarios: list[Scenario], labs):
        told.asked = (self, scenarios, labs)
        results = {}
        for one in scenarios:
            for name, claim in one.claims.items():
                for kind in KINDS:
                    for number, _ in enumerate(claim.experiments(kind), 1):
                        results[name, kind, number] = GOOD
                results[name, "run", 1] = told.results.get(name, GOOD)
        return verdicts_of("", {"verify-1": LabFacts()}, list(claim_results(scenarios, results)))

    monkeypatch.setattr(Verification, "verify_all", verify_all)
    monkeypatch.setattr(provision, "reach_engine", lambda *_: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(image, "ensure_node_image", lambda *_, **__: SimpleNamespace(name="image"))
    return told


ONE = ["matrix", "--scenario", "scenario-2.1"]


def test_the_grid(decided, capsys):
    assert main(ONE) == 0
    out = capsys.readouterr().out
    assert "14 of 14 reproduced" in out
    (line,) = [line for line in out.splitlines() if "renegotiation-per-move" in line]
    assert line.split() == ["~", "renegotiation-per-move", "2.1-colocated-renegotiates"]
    assert "scenario-2.1  mip-in-ipsec  foreign-agent  ✗ fa-registration-impossible" in out


@pytest.mark.parametrize(
    ("result", "line"),
    [(BAD, "! refuted"), (RunResult(error="the lab fell over"), "? inconclusive")],
)
def test_what_is_not_reproduced_is_no_success(decided, capsys, result, line):
    decided.results["2.1-colocated-registers"] = result
    assert main(ONE) == 1
    out = capsys.readouterr().out
    assert "13 of 14 reproduced" in out and "2.1-colocated-registers is " in out
    (row,) = [one for one in out.splitlines() if "2.1-colocated-registers" in one and "is" not in one.split()]
    assert line in row and "works" not in row


def test_json_has_every_claim_with_its_scenario(decided, capsys):
    assert main([*ONE, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert next(iter(document)) == "schema_version" and len(document["claims"]) == 14
    assert {one["scenario"] for one in document["claims"]} == {"scenario-2.1"}
    shown = {one["id"]: one["problem"] for one in document["claims"] if one["problem"]}
    assert shown["2.1-gateway-guards"] == "home-agent-unreachable"


def test_github(decided, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    decided.results["2.1-fa-mn-deaf"] = BAD
    assert main([*ONE, "-o", "github", "-q"]) == 1
    seen = capsys.readouterr()
    assert seen.out.startswith("### 13 of 14 claims reproduced\n") and "::error" not in seen.out
    assert "| Scenario | Stack |" in seen.out
    (error,) = seen.err.splitlines()
    assert (
        error.startswith("::error file=") and "title=2.1-fa-mn-deaf is refuted::it is so: not seen" in error
    )
    assert "line=" in error and "topologies/claims/" in error


def test_junit_has_a_suite_for_each_scenario(decided, tmp_path):
    decided.results["2.1-fa-mn-deaf"] = BAD
    assert main([*ONE, "--junit", str(tmp_path / "j.xml")]) == 1
    (suite,) = ET.parse(tmp_path / "j.xml").getroot()
    assert suite.get("name") == "scenario-2.1" and suite.get("failures") == "1"


def test_junit_that_can_be_written_no_more_costs_nothing_else(decided, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("testbed.cli.experiments._check_writable", lambda file: None)
    assert main([*ONE, "--junit", str(tmp_path / "missing" / "j.xml")]) == 2
    seen = capsys.readouterr()
    assert "14 of 14 reproduced" in seen.out and "cannot write" in seen.err


def test_only_a_stack(decided, capsys):
    assert main([*ONE, "--stack", "mip-only", "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    assert "mip-in-ipsec" not in out and "2.1-inside-mobility" in out
    job, scenarios, labs = decided.asked
    assert job.jobs == 2 and len(scenarios) == 1
    assert {run.claim for lab in labs for stage in lab.stages for run in stage.runs} == set(
        scenarios[0].claims
    )


def test_every_scenario_by_default(decided, capsys):
    assert main(["matrix"]) == 0
    names = [one.loaded.name for one in decided.asked[1]]
    assert names[0] == "scenario-2.1" and all(name.startswith("scenario-") for name in names)
    assert "reproduced" in capsys.readouterr().out


def test_mistakes_of_the_user(decided, capsys):
    assert main(["matrix", "--scenario", "scenario-2.11"]) == 2
    assert "did you mean scenario-2.1" in capsys.readouterr().err
    assert main(["matrix", "--stack", "mip"]) == 2
    assert main(["matrix", "--scenario", "plain-mip"]) == 2
    assert "makes no claims" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(decided, tmp_path, capsys):
    (tmp_path / "letter.txt").touch()
    assert main([*ONE, "--evidence", str(tmp_path)]) == 2
    assert "holds no evidence" in capsys.readouterr().err
    assert decided.asked is None
