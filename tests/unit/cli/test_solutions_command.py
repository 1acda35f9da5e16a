"""`testbed solutions` as a command: what it prints, where, and what it ends with."""

import json
from types import SimpleNamespace

import pytest

from testbed.cli import main
from testbed.cli.complete import complete_guideline, complete_solution
from testbed.engine import image, provision
from testbed.evidence.verdicts import KINDS, LabFacts
from testbed.experiment.claims.verdict import Finding, RunResult, claim_results, verdicts_of
from testbed.experiment.claims.verify import Verification

GOOD = RunResult([Finding("it is so", True, "seen")])
BAD = RunResult([Finding("it is so", False, "something else")])


@pytest.fixture
def decided(monkeypatch):
    """Runs come out as told: id of a claim and run or control → what it came to; else they hold."""
    told = SimpleNamespace(results={}, asked=None)

    def verify_all(self, scenarios, labs):
        told.asked = (self, scenarios, labs)
        results = {
            (one.id(name), kind, number): told.results.get((one.id(name), kind), GOOD)
            for one in scenarios
            for name, claim in one.claims.items()
            for kind in KINDS
            for number, _ in enumerate(claim.experiments(kind), 1)
        }
        return verdicts_of("", {"verify-1": LabFacts()}, list(claim_results(scenarios, results)))

    monkeypatch.setattr(Verification, "verify_all", verify_all)
    monkeypatch.setattr(provision, "reach_engine", lambda *_: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(image, "ensure_node_image", lambda *_, **__: SimpleNamespace(name="image"))
    return told


def test_the_grid_and_what_decided_it(decided, capsys) -> None:
    for claim in ("5.6-no-negotiation", "5.6-no-authentication"):
        decided.results[f"nothing.{claim}", "run"] = BAD
    assert main(["solutions", "nothing", "--jobs", "2"]) == 0  # a guideline that is not followed is a result
    out = capsys.readouterr().out
    (line,) = [
        one for one in out.splitlines() if one.startswith("nothing ") and "5.6" in one and "MUST" not in one
    ]
    assert line.split()[:11] == ["nothing", *"✓✓✓✓✓✗✓✓✓✓"] and line.endswith("✗ 5.6")
    first = out[out.index("RESULT") :].splitlines()[1]
    assert first.split()[:4] == ["nothing", "✗", "5.6", "MUST"]
    assert "5.6-no-negotiation" in out and "nothing.5.6-no-negotiation" not in out
    assert decided.asked[0].jobs == 2


def test_a_control_that_does_not_come_out_is_an_error(decided, capsys) -> None:
    decided.results["nothing.5.4-parts-apart", "control"] = BAD
    assert main(["solutions", "nothing", "--guideline", "5.4"]) == 1
    out = capsys.readouterr().out
    assert "? 5.4" in out and "the control failed: it is so: something else" in out


def test_json_has_the_cells_and_the_claims(decided, capsys) -> None:
    decided.results["trusted-fa.5.1-nothing-in-clear", "run"] = BAD
    assert main(["solutions", "trusted-fa", "--guideline", "5.1", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    nothing, trusted = document["solutions"]
    assert (nothing["name"], nothing["broken"]) == ("nothing", [])
    (cell,) = trusted["cells"]
    assert cell == {
        "guideline": "5.1",
        "title": "Preservation of Existing VPN Infrastructure",
        "level": "MUST",
        "state": "fails",
        "why": "it is so: something else",
        "claims": ["trusted-fa.5.1-nothing-in-clear"],
    }
    assert {one["guideline"][0] for one in document["claims"]} == {"5.1"}
    assert trusted["broken"] == ["5.1"]


def test_markdown_for_github(decided, capsys) -> None:
    assert main(["solutions", "nothing", "--guideline", "5.6", "--guideline", "5.8", "-o", "github"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "| Solution | 5.6 | 5.8 | MUST broken |\n|---|---|---|---|\n| nothing | ✓ | ✓ |  |\n"
    )


def test_a_topology_of_ones_own_is_a_solution(decided, capsys, tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\ntitle: Mine\ninclude: [shared/solution.yaml, shared/guidelines.yaml]\n")
    assert main(["solutions", str(file), "--guideline", "5.8"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].split() == ["mine", "✓"]
    assert [one.loaded.name for one in decided.asked[1]] == ["mine"]  # 5.8 is compared with no other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothin"], "did you mean solutions/nothing?"),
        (["scenario-2.1"], "scenario-2.1 has no guidelines that it is judged by"),
        (["--guideline", "6.6"], "there is no guideline 6.6"),
    ],
)
def test_what_cannot_be_judged(decided, capsys, arguments, message) -> None:
    assert main(["solutions", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_completion() -> None:
    assert {"nothing", "trusted-fa"} <= set(complete_solution(""))
    assert complete_solution("trus") == ["trusted-fa"]
    assert "solutions/nothing" in complete_solution("solutions/n")
    assert complete_guideline("5.1") == ["5.1", "5.10"]
