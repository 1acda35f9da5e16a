"""`testbed.api`: tasks in any thread, labelled and stopped; what a task's process makes of results."""

from __future__ import annotations

import threading
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sweep_world import study_file

from testbed import api
from testbed.api import Claims, HandOff, Result, Task, remove_study, run
from testbed.engine import names
from testbed.engine.fake import FakeContainer, FakeEngine, become_ready
from testbed.errors import MachineError, NotReadyError, TestbedError, UsageError
from testbed.evidence.handoff import HandOff as Move
from testbed.evidence.handoff import HandOffRun, HandOffs
from testbed.evidence.health import Health
from testbed.evidence.verdicts import Claim, RunFacts, Verdicts
from testbed.evidence.versions import EngineFacts, Machine, Versions
from testbed.experiment.versions import own_version
from testbed.lab.interrupt import never
from testbed.lab.leftovers import Owner
from testbed.sweep.assignment import Assignment
from testbed.sweep.child import carry_out
from testbed.sweep.plan import load_plan

IMAGE = "testbed-node:test"
MADE = Versions(
    testbed="0.1.0",
    finished="2026-11-30T00:00:00+00:00",
    engine=EngineFacts(name="Docker Engine", version="20.10", host="lab-1"),
    image=IMAGE,
    image_id="sha256:1",
    machine=Machine(cpu="EPYC", cpus=2, load=0.5),
)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    made = FakeEngine()
    monkeypatch.setattr(api, "connect", lambda: made)
    monkeypatch.setattr(api, "ensure_node_image", lambda *_: SimpleNamespace(name=IMAGE))
    return made


@pytest.mark.parametrize("work", [Claims(("2.1-fa-mn-deaf",)), HandOff(moves=1)])
def test_a_task_in_a_thread_is_stopped_and_leaves_nothing(
    engine: FakeEngine, tmp_path: Path, work: Claims | HandOff
) -> None:
    stop, made = threading.Event(), list[FakeContainer]()

    def behave(container: FakeContainer) -> None:
        made.append(container)
        become_ready(container)
        stop.set()

    engine.behave = behave
    came: list[BaseException] = []

    def work_off() -> None:
        try:
            run(Task("scenario-2.1", work, lab="mine", study="s"), tmp_path / "e", stopping=stop.is_set)
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=work_off)
    thread.start()
    thread.join(120)
    assert [type(one) for one in came] == [KeyboardInterrupt]
    assert not engine.boxes and not engine.network_specs
    labels = made[0].spec.labels
    assert labels[names.LAB].startswith("mine-") and labels[names.STUDY] == "s"
    owner = Owner.parse(labels[names.SESSION])
    assert owner is not None and not owner.session.dead


def test_what_is_wrong_with_a_task_is_said_before_an_engine_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no claim"):
        run(Task("scenario-2.1", Claims(("2.1-moon",))), tmp_path)


def test_the_labs_of_a_study_are_removed_and_no_others(engine: FakeEngine) -> None:
    engine.behave = lambda container: None
    for lab, study in (("a", "mine"), ("b", "other"), ("c", "")):
        labels = {names.LAB: lab, names.NODE: "n"} | ({names.STUDY: study} if study else {})
        id = engine.create_container(_spec(lab, labels))
        engine.start_container(id)
    assert remove_study("mine").containers == {"a"}
    assert sorted(box.spec.name for box in engine.boxes.values()) == ["b", "c"]
    with pytest.raises(TestbedError):
        remove_study("")


def _spec(name: str, labels: dict[str, str]) -> Any:
    from testbed.engine.api import ContainerSpec

    return ContainerSpec(name, name, IMAGE, labels, (), b"", command=("sleep",))


@pytest.fixture
def assignment(tmp_path: Path) -> Assignment:
    text = "name: few\ntopologies: [plain-mip]\nhandoff: {rtt: [40ms], moves: 2}\n"
    return load_plan(study_file(tmp_path, text)).assignments[0]


def _run(**found: Any) -> Callable[..., Result]:
    def play(task: Task, evidence: Path, **_: object) -> Result:
        evidence.mkdir(parents=True)
        (evidence / "handoff.json").write_text("{}", encoding="utf-8")
        return Result(task, evidence, 12.5, versions=MADE, **found)

    return play


def test_the_record_of_a_task_says_what_it_came_to_and_where(assignment: Assignment) -> None:
    moves = [Move(from_="a", to="b", outage_ms=81.0, lost=3), Move(from_="b", to="a")]
    health = Health(late_ms=2.0, cpu_pressure_percent=9.0)
    measured = HandOffRun(stack="mip-only", rtt_ms=40, moves=moves, health=health, marks=["x", "y"])
    came = carry_out(assignment, never, _run(handoffs=HandOffs(scenario="plain-mip", runs=[measured])))
    record = came.record
    assert record is not None and b64decode(came.evidence)[:4] == b"\x28\xb5\x2f\xfd"  # zstd (RFC 8878)
    assert (record.seconds, record.host, record.cpu, record.load) == (12.5, "lab-1", "EPYC", 0.5)
    assert (record.engine, record.image_id) == ("Docker Engine 20.10", "sha256:1")
    assert [(row.move, row.outage_ms, row.lost) for row in record.rows] == [(1, 81.0, 3), (2, None, 0)]
    assert {(row.rtt_ms, row.late_ms, row.marks) for row in record.rows} == {(40.0, 2.0, "x; y")}


@pytest.mark.parametrize("lab, decided", [("verify-1", True), ("", False)])
def test_a_claim_whose_lab_did_not_come_up_is_not_decided(
    assignment: Assignment, lab: str, decided: bool
) -> None:
    facts = RunFacts(verdict="undecided", lab=lab, error="a lab did not come up")
    claim = Claim(id="c", verdict="inconclusive", reason="no", run=facts)
    came = carry_out(assignment, never, _run(verdicts=Verdicts(claims=[claim])))
    assert (came.record is not None) == decided
    if came.trouble:
        assert came.trouble.elsewhere and came.trouble.message == "a lab did not come up"


@pytest.mark.parametrize(
    "error, elsewhere",
    [
        (MachineError("no engine answers"), True),
        (NotReadyError("mn is not ready"), True),
        (OSError(28, "No space left on device"), True),
        (UsageError("there is no stack x"), False),
    ],
)
def test_what_another_machine_may_do_better_is_told_from_what_none_can(
    assignment: Assignment, error: Exception, elsewhere: bool
) -> None:
    def fail(*_: object, **__: object) -> Result:
        raise error

    came = carry_out(assignment, never, fail)
    assert came.trouble is not None and came.trouble.elsewhere is elsewhere


def test_another_testbed_carries_nothing_out(assignment: Assignment) -> None:
    for change in ({"version": "9"}, {"image": "testbed-node:other"}):
        came = carry_out(assignment.model_copy(update=change), never, _run())
        assert came.trouble is not None and "another testbed" in came.trouble.message
    assert own_version() == assignment.version
