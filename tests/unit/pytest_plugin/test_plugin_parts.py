"""The plugin as other projects meet it: an engine in memory, and pytest in this process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from plugin_world import CLAIMS, Nodes, recorded

from testbed.engine import names
from testbed.engine.api import EngineError
from testbed.engine.fake import FakeEngine
from testbed.lab.down import remove_labs
from testbed.pytest_plugin.state import Session

pytest_plugins = "pytester"

Run = Callable[..., pytest.RunResult]

SHARED = """
import pytest

seen = []

@pytest.mark.testbed("small.yaml")
def test_first(lab):
    seen.append(lab.name)

@pytest.mark.testbed("./small.yaml")
class TestMore:
    def test_second(self, lab):
        assert seen == [lab.name]
"""


def test_tests_that_ask_for_the_same_share_a_lab_which_the_session_does_not_leave(
    run: Run, engine: FakeEngine
) -> None:
    run(SHARED).assert_outcomes(passed=2)
    assert engine.calls["create_container"] == 3
    assert not engine.boxes and not engine.network_specs


def test_all_that_is_made_says_whose_it_is(run: Run, engine: FakeEngine) -> None:
    made: list[str] = []
    behave = engine.behave
    engine.behave = lambda box: (made.append(box.spec.labels[names.SESSION]), behave(box))  # type: ignore[assignment, func-returns-value]
    run(SHARED).assert_outcomes(passed=2)
    (label,) = set(made)
    session, maker = label.split(";")
    assert session == maker and session.split()[3] == str(os.getpid())


ANOTHER = """
import pytest

seen = []

@pytest.mark.testbed("small.yaml")
def test_first(lab):
    seen.append(lab.name)

@pytest.mark.testbed("plain.yaml", "network.internet.delay=0", attach="hotel")
def test_another(lab):
    assert lab.name not in seen
    assert lab.topology.options["attach"] == "hotel"
    assert not lab.topology.networks["internet"].delay
    seen.append(lab.name)

@pytest.mark.testbed("small.yaml")
def test_the_first_again(lab):
    assert lab.name == seen[0] if {jobs} > 1 else lab.name not in seen
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_so_many_labs_at_once(run: Run, engine: FakeEngine, jobs: int) -> None:
    most = 0

    def count(name: str) -> None:
        nonlocal most
        most = max(most, len({box.spec.labels[names.LAB] for box in engine.boxes.values()}))

    engine.failures["start_container"] = count
    run(ANOTHER.replace("{jobs}", str(jobs)), f"--testbed-jobs={jobs}").assert_outcomes(passed=3)
    assert most == jobs


SCOPES = """
import pytest

given = []

@pytest.fixture(scope="module")
def for_the_file(testbed_lab):
    return testbed_lab("small.yaml")

@pytest.fixture
def for_the_test(testbed_lab):
    yield testbed_lab("small.yaml")

def test_one(for_the_file, for_the_test):
    assert for_the_file.name != for_the_test.name
    given.extend([for_the_file, for_the_test])

def test_two(for_the_file, testbed_lab, testbed_engine):
    assert for_the_file is given[0]
    mine = testbed_lab("small.yaml")
    assert mine.name != for_the_file.name
    labs = {each.labels["org.testbed.lab"] for each in testbed_engine.containers({"org.testbed.lab": ""})}
    assert labs == {mine.name, for_the_file.name}  # what was beyond --testbed-jobs has gone
"""


def test_whoever_asks_for_a_lab_has_it_until_the_end(run: Run, engine: FakeEngine) -> None:
    run(SCOPES, "--testbed-jobs=1").assert_outcomes(passed=2)


STATE = """
import pytest

@pytest.mark.testbed("plain.yaml")
def test_moves(lab):
    moved = lab.move("mn", "hotel")
    assert (moved.state, moved.data, moved.ike) == ("registered", 9.0, None)
    assert lab.node("ha").state() is not None
    assert any(one.name == "settled" and one.node == "mn" for one in lab.events)

@pytest.mark.testbed("plain.yaml")
def test_next(lab):
    assert not lab.events

@pytest.mark.testbed("plain.yaml")
def test_changes(lab):
    assert lab.exec("ha", "true").code == 0
    done = lab.exec("ha", "false")
    assert (done.code, done.complaint) == (1, "it cannot")
    assert lab.set("network.internet.delay=250ms")["internet"].delay_ms == 250

@pytest.mark.testbed("plain.yaml")
def test_after_that(lab):
    pass
"""


def test_a_lab_is_set_back_between_tests(run: Run, engine: FakeEngine, nodes: Nodes) -> None:
    """As before each run of a claim; after commands and changes `up` mends it as well."""
    run(STATE).assert_outcomes(passed=4)
    order = [
        what for node, what in nodes.asked if (node, what) in (("mn", "forget"), ("ha", "testbed-drift"))
    ]
    assert order == ["forget"] * 3 + ["testbed-drift", "forget"]
    assert nodes.relay["delay_ms"] == 10
    assert engine.calls["create_container"] == 6


def test_a_lab_that_somebody_took_down_is_made_anew(run: Run, engine: FakeEngine) -> None:
    text = SHARED.replace("seen.append(lab.name)", "seen.append(lab.name); remove_labs(lab.engine, lab.name)")
    run("from testbed.lab.down import remove_labs\n" + text).assert_outcomes(passed=2)
    assert engine.calls["create_container"] == 6


FAILS = """
import pytest

@pytest.mark.testbed("plain.yaml")
def test_fails(lab):
    lab.move("mn", "hotel")
    assert lab.name == "another"
"""


def test_a_test_that_fails_shows_what_the_lab_saw(
    run: Run, engine: FakeEngine, nodes: Nodes, pytester: pytest.Pytester
) -> None:
    nodes.record = recorded(time.time() - 60, time.time() + 60)
    result = run(FAILS, "--testbed-evidence=evidence")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*testbed: pytest-*, a lab of plain-mip*",
            "evidence: *evidence/test_other.py-test_fails",
            "*testbed: last events*",
            "*mn roam  settled  network=hotel state=registered*",
            "*testbed: ladder of the last 10 s*",
            "*mn → *IP mn@hotel→cn | ICMP echo request*",
        ]
    )
    folder = pytester.path / "evidence" / "test_other.py-test_fails"
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == {
        "captures/mn-hotel.pcap", "events.jsonl", "ladder.txt", "steps.jsonl", "topology.yaml",
    }  # fmt: skip
    (step,) = map(json.loads, (folder / "steps.jsonl").read_text().splitlines())
    assert (step["text"], step["result"]) == ("move mn to hotel", "registered: co-located")
    ladder = (folder / "ladder.txt").read_text()
    assert "move mn to hotel: registered" in ladder and ladder.count("echo request") == 1


def test_a_fault_in_the_evidence_spoils_no_report(run: Run, engine: FakeEngine, nodes: Nodes) -> None:
    nodes.record = b"no capture"
    result = run(FAILS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*AssertionError: assert 'pytest-*", "no captures: cannot read what mn recorded"]
    )


WRONG = """
import pytest

@pytest.mark.testbed("plain.yaml")
def test_network(lab):
    lab.move("mn", "hotl")

@pytest.mark.testbed("plain.yaml")
def test_node(lab):
    lab.exec("mm", "true")

@pytest.mark.testbed("plain.yaml")
def test_tap(lab):
    with lab.capture("mn"):
        pass

@pytest.mark.testbed("plain.yaml")
def test_filter(lab):
    with lab.capture("mn/hotel", filter="udp prt 434"):
        pass

@pytest.mark.testbed("plain-mp")
def test_topology(lab):
    pass

@pytest.mark.testbed("plain.yaml", atach="hotel")
def test_option(lab):
    pass

def test_no_marker(lab):
    pass
"""


def test_mistakes_are_told_at_the_tests_own_line(run: Run, engine: FakeEngine) -> None:
    result = run(WRONG)
    result.assert_outcomes(failed=4, errors=3)
    text = result.stdout.str()
    for message in (
        "UsageError: mn has no network hotl to attach to",
        "hint: did you mean hotel?",
        "has no node mm",
        "mn: expected NODE/NETWORK",
        "hint: such as mn/hotspot",
        "UsageError: filter 'udp prt 434'",
        "no topology called plain-mp",
        "option.atach",
        'the fixture `lab` needs a topology: @pytest.mark.testbed("plain-mip")',
    ):
        assert message in text, message
    assert "laboratory.py" not in text and "state.py" not in text  # no frame of ours


@pytest.mark.parametrize("ci", ["", "true"])
def test_without_an_engine(run: Run, monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    tried = []

    def reach(say: object) -> None:
        tried.append(say)
        raise EngineError("no container engine answers", hint="start it: dockerd")

    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr("testbed.pytest_plugin.pool.reach_engine", reach)
    result = run(SHARED)
    result.assert_outcomes(**({"errors": 2} if ci else {"skipped": 2}))
    result.stdout.fnmatch_lines(
        [
            "*NO CONTAINER ENGINE: tests that need a lab did not run*",
            "NO CONTAINER ENGINE: no container engine answers (start it: dockerd)*",
        ]
    )
    assert len(tried) <= 2  # and once more at the end at most


def test_labs_that_are_kept(run: Run, engine: FakeEngine) -> None:
    result = run(SHARED, "--testbed-keep")
    result.assert_outcomes(passed=2)
    (lab,) = {box.spec.labels[names.LAB] for box in engine.boxes.values()}
    result.stdout.fnmatch_lines([f"{lab}: testbed status {lab}; testbed down {lab} removes it"])
    assert not any(
        names.SESSION in box.spec.labels for box in engine.boxes.values()
    )  # nor does a later start


def test_a_lab_that_does_not_come_up_is_an_error_for_people(run: Run, engine: FakeEngine) -> None:
    engine.failures["create_container"] = lambda name: EngineError("no space left on device")
    result = run(SHARED)
    result.assert_outcomes(errors=2)
    assert "EngineError: no space left on device" in result.stdout.str()
    assert not engine.network_specs


def test_what_cannot_be_removed_is_a_warning(run: Run, engine: FakeEngine) -> None:
    engine.failures["remove_network"] = lambda name: EngineError("the engine has miscounted")
    remove = partial(remove_labs, patience=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("testbed.lab.leftovers.remove_labs", remove)
        result = run(SHARED)
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*testbed: could not remove testbed-pytest-*: the engine has miscounted*"])


# Claims


def test_claims_are_items(run: Run, engine: FakeEngine, pytester: pytest.Pytester) -> None:
    (pytester.path / "mine.yaml").write_text(CLAIMS)
    collected = run(SHARED, "--collect-only", "-q", "--testbed-claims=mine.yaml").stdout.str()
    assert "mine.yaml::one\nmine.yaml::two" in collected and "test_other.py::test_first" in collected
    assert not engine.calls
    one = run(SHARED, "--collect-only", "-q", "--testbed-claims=mine.yaml", "mine.yaml::two").stdout.str()
    assert "mine.yaml::two" in one and "::one" not in one and "test_other" not in one
    two = run(SHARED, "--collect-only", "-q", "--testbed-claims=mine.yaml", "-k", "two").stdout.str()
    assert "mine.yaml::two" in two and "3 deselected" in two


def test_a_claim_passes_where_it_is_reproduced(
    run: Run, engine: FakeEngine, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    from testbed.evidence.verdicts import Claim, Finding

    def decided(topology: object, claim: str, lend: object, folder: Path) -> Claim:
        held = claim == "one"
        finding = Finding(run="main", expectation="mn is at home", held=held, observed="mn is registered")
        return Claim(
            id=claim, verdict="reproduced" if held else "refuted", evidence=[finding],
            says="It is so", source="§1", reason="" if held else "mn is at home: mn is registered",
        )  # fmt: skip

    monkeypatch.setattr("testbed.pytest_plugin.claims.verify_claim", decided)
    (pytester.path / "mine.yaml").write_text(CLAIMS)
    result = run("", "--testbed-claims=mine.yaml", "mine.yaml", "--junitxml=junit.xml", "-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "mine.yaml::one PASSED*",
            "two is refuted: mn is at home: mn is registered",
            "  It is so (§1)",
            "  main: mn is at home: not so: mn is registered",
            "  hint: testbed explain two *mine.yaml --evidence */mine.yaml-two",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    junit = (pytester.path / "junit.xml").read_text()
    assert '<property name="verdict" value="refuted"' in junit and 'name="two"' in junit


@pytest.mark.parametrize(
    ("text", "message"),
    [(CLAIMS.replace("says: Nor", "say: Nor"), r"mine.yaml:\d+:\d+: .*say"), ("", "mine.yaml")],
)
def test_a_file_that_is_wrong(
    run: Run, engine: FakeEngine, pytester: pytest.Pytester, text: str, message: str
) -> None:
    (pytester.path / "mine.yaml").write_text(text)
    result = run("", "--testbed-claims=mine.yaml")
    result.assert_outcomes(errors=1)
    assert re.search(message, result.stdout.str()) and "Traceback" not in result.stdout.str()


# Projects that do not use it

COST = """
import sys, time
import pytest, json, hashlib, contextlib, typing, socket, pathlib  # which pytest has loaded
began = time.process_time()
import testbed.pytest_plugin
print(time.process_time() - began)
print(*[name for name in sys.modules if name.split(".")[0] in {"docker", "pydantic", "yaml", "jinja2"}])
print(*[name for name in sys.modules if name.startswith("testbed")])
"""


def test_a_project_that_does_not_use_it_pays_little() -> None:
    best = 1.0
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # else each would compile it anew
    for _ in range(5):
        took, others, ours = subprocess.run(
            [sys.executable, "-c", COST], env=environment, capture_output=True, text=True, check=True
        ).stdout.split("\n")[:3]
        best = min(best, float(took))
        assert not others
        here = "testbed.pytest_plugin"
        assert set(ours.split()) == {"testbed", here, f"{here}.state", "testbed.lab", "testbed.lab.processes"}
    assert best < 0.02


def test_runs_in_this_process_leave_its_modules_alone(run: Run, engine: FakeEngine) -> None:
    run("import this, lark").assert_outcomes()
    assert "this" in sys.modules and "test_other" not in sys.modules
    from lark import Token

    assert Token is sys.modules["lark"].Token is sys.modules["lark.lexer"].Token


def test_a_project_that_does_not_use_it_reaches_no_engine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.pytest_plugin.state.Session._made", lambda self: pytest.fail("made"))
    run("def test_nothing(): pass").assert_outcomes(passed=1)


def test_a_name_with_a_slash_may_be_a_built_in_topology(pytestconfig: pytest.Config) -> None:
    assert Session(pytestconfig)._load("solutions/wireguard", (), None).name == "wireguard"
