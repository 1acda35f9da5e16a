"""What a learner types, on the engine in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from lesson_world import LESSON, Nodes, around, write_lesson

from testbed.cli import main
from testbed.engine.fake import FakeEngine
from testbed.errors import StepError
from testbed.lesson import attend
from testbed.lesson.load import load_lesson
from testbed.lesson.progress import state_file
from testbed.lesson.shelf import Head, builtin_lessons
from testbed.lesson.solution import quietly

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def engine(nodes: Nodes) -> FakeEngine:
    return FakeEngine(command=nodes)


@pytest.fixture
def run(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    around(engine, monkeypatch)
    write_lesson(tmp_path / "walk")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(("lesson", *arguments))
        streams = capfd.readouterr()
        return code, streams.out, streams.err

    return run


def test_a_lesson_from_its_start_to_its_end(run: Run) -> None:
    code, out, _ = run("start", "./walk")
    assert code == 0
    assert "Welcome to walk." in out and "Task 1 of 2: Go out" in out
    assert "Walk to the hotspot of walk." in out and "Where are you?" in out
    code, out, _ = run("check")
    assert code == 1
    assert "✗ The home agent walk knows of no walk." in out and "✗ Look at the home agent." in out
    code, out, _ = run("solution", "--apply")
    assert code == 0 and "testbed move walk mn hotspot" in out and "answer: 203.0.113.10" in out
    code, out, _ = run("check")
    assert code == 1 and "✗ Look at the home agent. Where are you?" in out
    assert "knows of no walk" not in out and "1 of 2 checks hold" in out
    assert run("check", "203.0.113.11")[0] == 1
    code, out, _ = run("check", "203.0.113.10")
    assert code == 0 and "You were out." in out and "Task 2 of 2: Edit" in out
    code, out, _ = run("check")
    assert code == 1 and "✗ The limit is what it was." in out
    run("solution", "--apply")
    code, out, _ = run("check")
    assert code == 0 and "You have edited." in out and "You have walked." in out
    code, _, err = run("check")
    assert code == 2 and "all 2 tasks of" in err and "testbed lesson reset --from-start" in err


def test_a_task_is_passed_once_the_next_has_begun(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checks have to know what the lab was like then."""

    def silent(*_: object) -> None:
        raise StepError("ha does not answer")

    run("start", "./walk")
    run("solution", "--apply")
    with monkeypatch.context() as busy:
        busy.setattr(attend, "begin_task", silent)
        code, _, err = run("check", "203.0.113.10")
        assert code == 1 and "ha does not answer" in err
    code, out, _ = run("check", "203.0.113.10")
    assert code == 0 and "Task 2 of 2: Edit" in out
    (lesson,) = json.loads(run("progress", "-o", "json")[1])["lessons"].values()
    assert [one["attempts"] for one in lesson["tasks"]] == [2, 0]


def test_a_solution_says_each_command_as_the_learner_types_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "walk/lesson.yaml"
    file.write_text(
        file.read_text().replace("solution: [{move: hotspot}]", "solution: [testbed move LAB mn hotspot]")
    )
    done: list[Sequence[str]] = []
    monkeypatch.setattr("testbed.lesson.solution.run_command", lambda words: done.append(words) or 0)
    monkeypatch.setenv("TESTBED_COMMAND", "./tb")
    run("start", "./walk")
    _, out, err = run("solution", "--apply")
    assert done == [["move", "walk", "mn", "hotspot"]]
    assert "./tb move walk mn hotspot" in out.splitlines() and "$ ./tb move walk mn hotspot" in err


def test_an_edit_that_does_not_matter_passes_nothing(run: Run, nodes: Nodes) -> None:
    run("start", "./walk")
    run("solution", "--apply")
    run("check", "203.0.113.10")
    file = "/etc/mobileip/home-agent.toml"
    nodes.edited["ha", file] = "# lifetime = 10\n\n[limits]\n  lifetime = 600\n"
    nodes.edited["cn", file] = "lifetime = 10\n"
    assert run("check")[0] == 1
    nodes.edited["ha", file] = "lifetime  =  10\n"
    assert run("check")[0] == 0


def test_a_lesson_goes_on_where_it_was_left(run: Run, engine: FakeEngine, nodes: Nodes) -> None:
    run("start", "./walk")
    run("solution", "--apply")
    run("check", "203.0.113.10")
    made = engine.calls["create_container"]
    code, out, err = run("start", "./walk")
    assert code == 0 and "Task 2 of 2" in out and "Welcome" not in out
    assert "is under way in lab walk" in err and engine.calls["create_container"] == made
    code, _, err = run("stop")
    assert code == 0 and "removed lab walk" in err and not engine.boxes
    code, _, err = run("check")
    assert code == 2 and "there is no lab walk, which this lesson looks at" in err
    assert "testbed lesson start" in err and "task 2" in err
    nodes.network = None
    code, out, _ = run("start", "./walk")
    assert code == 0 and "Task 2 of 2" in out
    assert nodes.network == "hotspot"  # by the solution of the first task


def test_a_node_that_was_killed(run: Run, engine: FakeEngine) -> None:
    run("start", "./walk")
    engine.box("ha").stop(137)
    code, _, err = run("check")
    assert code == 2 and "lab walk is not whole: ha does not run" in err and "testbed lesson reset" in err
    assert run("reset")[0] == 0
    code, out, _ = run("check")
    assert code == 1 and "knows of no walk" in out


def test_without_a_lesson(run: Run) -> None:
    code, _, err = run("check")
    assert code == 2 and "no lesson is under way" in err and "testbed lesson start NAME" in err
    code, _, err = run("task", "--lesson", "./walk")
    assert code == 2 and "was not started" in err
    code, _, err = run("start", "first-hand-of")
    assert code == 2 and "did you mean first-hand-off?" in err
    code, _, err = run("start", "./nothing")
    assert code == 2 and "there is no lesson.yaml in nothing" in err


def test_two_lessons_have_labs_of_their_own(run: Run, engine: FakeEngine, tmp_path: Path) -> None:
    write_lesson(tmp_path / "other", LESSON.replace("A walk", "Another"))
    run("start", "./walk")
    code, _, err = run("start", "./other", "--name", "walk")
    assert code == 2 and "lab walk is that of lesson" in err and "--name" in err
    code, out, _ = run("start", "./other")
    assert code == 0 and "Walk to the hotspot of other." in out
    assert {box.spec.name.split("-")[1] for box in engine.boxes.values()} == {"walk", "other"}
    assert "Walk to the hotspot of other." in run("task")[1]
    assert "Walk to the hotspot of walk." in run("task", "--lesson", "./walk")[1]
    run("start", "./walk")
    assert "Walk to the hotspot of walk." in run("task")[1]


def test_hints_rise_and_are_counted(run: Run) -> None:
    run("start", "./walk")
    assert "Hint 1 of 2: first" in run("hint")[1]
    assert "Hint 2 of 2: second" in run("hint")[1]
    code, out, _ = run("hint")
    assert "Hint 2 of 2: second" in out and "testbed lesson solution" in out
    run("check")
    code, out, _ = run("progress", "-o", "json")
    facts = json.loads(out)
    (lesson,) = facts["lessons"].values()
    assert code == 0 and facts["learner"] and not lesson["done"]
    assert lesson["tasks"][0] == {"attempts": 1, "hints": 2, "solution": False, "passed": None}


def test_an_answer_where_none_is_asked_for(run: Run) -> None:
    run("start", "./walk")
    run("solution", "--apply")
    run("check", "203.0.113.10")
    code, _, err = run("check", "42")
    assert code == 2 and "this task asks no question" in err


def test_from_start_forgets_what_was_passed(run: Run) -> None:
    run("start", "./walk")
    run("solution", "--apply")
    run("check", "203.0.113.10")
    code, out, _ = run("reset", "--from-start")
    assert code == 0 and "Task 1 of 2" in out
    assert "task 1 of 2" in run("progress")[1]


def test_a_file_that_holds_no_progress(run: Run) -> None:
    run("start", "./walk")
    state_file().write_text("{]")
    code, _, err = run("progress")
    assert code == 2 and "does not hold the progress of lessons" in err and "move it away" in err


def test_the_list_says_what_the_lessons_say(run: Run) -> None:
    """It reads no more of a lesson than its head, and does not check it."""
    code, out, _ = run("list", "-o", "json")
    listed = {one.pop("name"): Head(**one) for one in json.loads(out)["lessons"]}
    assert code == 0 and list(listed) == list(builtin_lessons())
    name, head = next(iter(listed.items()))
    one = load_lesson(name).lesson
    assert head == Head(
        one.number, one.title, one.goal, one.minutes, one.section, one.topology, len(one.tasks)
    )
    assert [each.number for each in listed.values()] == sorted({each.number for each in listed.values()})


def test_a_command_of_a_solution_that_is_not_carried_out_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    """Where a lab is set back nobody sees what the solutions of earlier tasks print."""
    assert quietly(["vocabulary", "--format", "nothing"]) == 2
    assert "--format" in capfd.readouterr().err
    assert quietly(["vocabulary"]) == 0
    assert capfd.readouterr() == ("", "")
