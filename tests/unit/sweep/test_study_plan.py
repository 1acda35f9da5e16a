"""From study.yaml to tasks: what is varied, in which order, under which key, and what may be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_world import STUDY, study_file

from testbed.api import Claims
from testbed.document.values import Expected
from testbed.errors import ErrorGroup, TestbedError, TopologyError
from testbed.evidence.study import TaskRecord
from testbed.sweep.model import parse_values
from testbed.sweep.plan import expected_seconds, load_plan

CLAIMS = """
name: claims
topologies: [mine.yaml]
claims: ["2.1-fa-*"]
"""


def test_every_combination_is_a_task_in_each_repetition(tmp_path: Path) -> None:
    plan = load_plan(study_file(tmp_path, STUDY.replace("attacked", "solutions/mobike")))
    tasks = plan.record.tasks
    assert len(tasks) == len({one.key for one in tasks}) == 2 * 3 * 2 * 2
    assert {one.options["network.internet.loss"] for one in tasks} == {"0%", "0.5%", "1%"}
    assert [one.repetition for one in tasks] == [1] * 12 + [2] * 12  # in blocks
    assert {one.solution for one in tasks} == {"", "mobike"}
    first = plan.assignments[0]
    assert first.sets == [f"{name}={value}" for name, value in first.task.options.items()]


def test_a_seed_decides_the_order_and_nothing_but_that(tmp_path: Path) -> None:
    plan, again = load_plan(study_file(tmp_path)), load_plan(study_file(tmp_path))
    assert plan == again

    def cells(repetition: int) -> list[tuple[str, str]]:
        return [(one.topology, str(one.options)) for one in plan.record.tasks if one.repetition == repetition]

    assert cells(1) != cells(2) and sorted(cells(1)) == sorted(cells(2))
    orders = {tuple(one.work["rtts"]) for one in plan.assignments}  # type: ignore[arg-type]
    assert len(orders) > 1 and {tuple(sorted(one)) for one in orders} == {(0.0, 40.0, 100.0)}


@pytest.mark.parametrize(
    "old, new",
    [
        ("moves: 2", "moves: 3"),
        ("40ms, 100ms", "50ms, 100ms"),
        ("[10ms, 20ms]", "[15ms, 25ms]"),
        ("repetitions: 2", "repetitions: 2\nseed: 7"),
    ],
)
def test_a_key_changes_with_what_it_stands_for(tmp_path: Path, old: str, new: str) -> None:
    before = {one.key for one in load_plan(study_file(tmp_path)).record.tasks}
    after = {one.key for one in load_plan(study_file(tmp_path, STUDY.replace(old, new))).record.tasks}
    assert not before & after


def test_what_is_added_to_a_study_leaves_the_keys_of_the_rest(tmp_path: Path) -> None:
    before = {one.key for one in load_plan(study_file(tmp_path)).record.tasks}
    text = STUDY.replace("name: loss", "name: more").replace("[10ms, 20ms]", "[20ms, 10ms, 30ms]")
    after = {one.key for one in load_plan(study_file(tmp_path, text)).record.tasks}
    assert before < after


def test_a_key_changes_with_image_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for image, version in (("a", "1"), ("b", "1"), ("a", "2")):
        monkeypatch.setattr("testbed.sweep.plan.node_image_name", lambda image=image: image)
        monkeypatch.setattr("testbed.sweep.plan.own_version", lambda version=version: version)
        keys.add(load_plan(study_file(tmp_path)).record.tasks[0].key)
    assert len(keys) == 3


def test_each_claim_is_a_task_and_a_topology_of_ones_own_travels_whole(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ninclude: [scenario-2.1.yaml, parts/slow.yaml]\n", encoding="utf-8"
    )
    slow = tmp_path / "parts" / "slow.yaml"
    slow.write_text("networks: {internet: {delay: 300ms}}\n", encoding="utf-8")
    plan = load_plan(study_file(tmp_path, CLAIMS))
    assert len(plan.assignments) > 1 and {one.task.kind for one in plan.assignments} == {"claim"}
    one = plan.assignments[0]
    assert sorted(one.bundle.files) == ["mine.yaml", "parts/slow.yaml"]
    task = one.api_task(tmp_path / "elsewhere")
    assert task.study == "claims" and task.lab == f"sweep-{one.task.key[:8]}"
    assert isinstance(task.work, Claims)
    scenario = task.work.plan(task)
    assert scenario.loaded.networks["internet"].delay == 300.0
    assert [*scenario.claims] == [one.task.claim]
    slow.write_text("networks: {internet: {delay: 200ms}}\n", encoding="utf-8")
    assert load_plan(study_file(tmp_path, CLAIMS)).assignments[0].task.key != one.task.key


@pytest.mark.parametrize(
    "change, where, says",
    [
        (("plain-mip,", "plain-mup,"), "3:14", "no topology called plain-mup"),
        (("[10ms, 20ms]", "[10ms, fast]"), "6:34", "expected a duration"),
        (("network.internet.delay", "network.internat.delay"), "6:28", "has no network internat"),
        (("{from: 0%, to: 1%, step: 0.5%}", "{from: 0%, to: 1ms, step: 1%}"), "5:26", "numbers of one unit"),
        (("{from: 0%, to: 1%, step: 0.5%}", "{from: 0%, to: 1%}"), "5:26", "the keys from, to and step"),
        (("moves: 2", "moves: 0"), "7:43", "expected a number of 1 or more"),
        (("moves: 2", "moves: 2, between: [hotel, moon]"), "3:14", "has no network moon"),
        (("repetitions", "repetition"), "8:1", "unknown key `repetition`"),
        (("handoff: {rtt: [0ms, 40ms, 100ms], moves: 2}", "seed: 1"), "2:1", "finds nothing out"),
        (("repetitions: 2", "repetitions: 2\nstacks: [mip-in-gre]"), "9:10", "stacks[0]: expected mip-only"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_written(
    tmp_path: Path, change: tuple[str, str], where: str, says: str
) -> None:
    file = study_file(tmp_path, STUDY.replace(*change))
    with pytest.raises(TestbedError) as caught:
        load_plan(file)
    errors = caught.value.errors if isinstance(caught.value, ErrorGroup) else (caught.value,)
    assert isinstance(errors[0], TopologyError)
    assert str(errors[0].source) == f"{file}:{where}" and says in errors[0].message, errors
    assert len({str(one) for one in errors}) == len(errors)  # each once, in however many combinations


def test_values_are_lists_or_ranges() -> None:
    assert parse_values([0, "1%", True]) == ["0", "1%", "true"]
    assert parse_values({"from": "0ms", "to": "100ms", "step": "40ms"}) == ["0ms", "40ms", "80ms"]
    assert parse_values({"from": 1, "to": 2, "step": 0.5}) == ["1", "1.5", "2"]
    for wrong in (
        [],
        "1%",
        ["1%", "1%"],
        [[1]],
        {"from": 2, "to": 1, "step": 1},
        {"from": 0, "to": 1e9, "step": 1},
    ):
        with pytest.raises(Expected):
            parse_values(wrong)


def test_the_time_is_that_of_tasks_alike(tmp_path: Path) -> None:
    plan = load_plan(study_file(tmp_path))
    first, *others = plan.assignments
    guess = expected_seconds(first, [])
    assert 10 < guess < 60
    alike = next(one for one in others if one.task.options == first.task.options
                 and one.task.topology == first.task.topology)  # fmt: skip
    unlike = next(one for one in others if one.task.topology != first.task.topology)
    known = [
        TaskRecord(task=unlike.task, seconds=9, rows=[]),
        TaskRecord(task=alike.task, seconds=4, rows=[]),
    ]
    assert expected_seconds(first, known[:1]) == 9 and expected_seconds(first, known) == 4
