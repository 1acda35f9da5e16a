"""What a learner does with a lesson: start, check, look at hints and solutions, set back, stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

from testbed.engine.api import Engine
from testbed.errors import StepError, UsageError
from testbed.lab.down import remove_labs
from testbed.lab.progress import Progress as Telling
from testbed.lab.progress import Silent
from testbed.lab.state import ActualLab, read_labs
from testbed.lab.up import bring_up
from testbed.lesson.answers import right_answer
from testbed.lesson.bench import Bench, opened
from testbed.lesson.check import Outcome, begin_task, check_task
from testbed.lesson.course import Course, changed, key, made_course, noted
from testbed.lesson.load import LoadedLesson, load_lesson
from testbed.lesson.progress import LessonProgress, TaskProgress, changing, read_progress
from testbed.lesson.solution import Command, carry_out, quietly


@dataclass
class Surroundings:
    """What it takes to bring up the lab of a lesson."""

    engine: Engine
    image: str
    pool: IPv4Network
    telling: Telling = field(default_factory=Silent)


@dataclass(frozen=True)
class Started:
    """What `start` came to."""

    course: Course
    resumed: bool
    """Whether the lesson had been started before."""
    as_it_was: bool
    """Whether its lab was up, and was left alone."""


def start(ref: str, lab: str | None, around: Surroundings) -> Started:
    """Start a lesson in a lab of its own, or go on with it where it was left.

    A lab that is whole is left alone; one that is gone is brought up again, to where the present task begins.
    Raises `UsageError` where another lesson has the lab, and what `bring_up` raises.
    """
    loaded, name = load_lesson(ref), key(ref)
    known = read_progress()
    before = known.lessons.get(name)
    chosen = lab or (before.lab if before else loaded.name)
    for other, its in known.lessons.items():
        if other != name and its.lab == chosen and chosen in read_labs(around.engine, chosen):
            raise UsageError(
                f"lab {chosen} is that of lesson {other}",
                hint="choose another name with --name",
            )
    there = read_labs(around.engine, chosen).get(chosen)
    if before and lab in (None, before.lab) and there and _whole(there, loaded):
        with changing() as progress:
            progress.current = name
        return Started(made_course(name, before), True, True)
    made = before or LessonProgress(
        file=name, lab=chosen, started=time.time(), tasks=[TaskProgress() for _ in loaded.lesson.tasks]
    )
    now = made_course(name, made.model_copy(update={"lab": chosen}))
    if now.progress.present is None:
        raise UsageError(
            f"lesson {name} is done", hint=f"testbed lesson reset --from-start --lesson {ref} begins it again"
        )
    return Started(set_back(now, around), before is not None, False)


def _whole(lab: ActualLab, loaded: LoadedLesson) -> bool:
    running = [name for name, each in lab.nodes.items() if each.state == "running"]
    return set(loaded.topology.nodes) <= set(running)


def set_back(now: Course, around: Surroundings, *, from_start: bool = False) -> Course:
    """Make the lab what it is where the present task begins; with `from_start`, the first.

    Solutions of tasks that are passed are carried out. Raises `StepError`, and what `bring_up` raises.
    """
    loaded, progress = now.loaded, now.progress
    if from_start:
        progress = progress.model_copy(update={"tasks": [TaskProgress() for _ in progress.tasks]})
        now = Course(now.name, loaded, progress)
    around.telling.show(f"bringing up {loaded.topology.name} as {progress.lab}")
    bring_up(
        around.engine, loaded.topology, lab=progress.lab, image=around.image, pool=around.pool,
        reset=tuple(loaded.topology.nodes), progress=around.telling,
    )  # fmt: skip
    around.telling.show("making the starting state")
    with opened(around.engine, progress.lab, loaded.topology, time.time()) as bench:
        bench.forget()
        bench.perform(loaded.lesson.start, ("start",))
        for index in range(now.present):
            carry_out(now, bench, index, quietly)
        return _begin(now, bench)


def _begin(now: Course, bench: Bench) -> Course:
    """Take down what the present task begins with, and that the learner is in this lesson."""
    clock = bench.access.shell(bench.access.mobile_node, "date +%s.%N").text
    seen: dict[str, Any] = {}
    if now.progress.present is not None:
        seen = begin_task(bench, now.task, now.place)
    made = now.progress.model_copy(update={"began": float(clock), "seen": seen})
    with changing() as progress:
        progress.current = now.name
        progress.lessons[now.name] = made
    return Course(now.name, now.loaded, made)


@contextmanager
def _bench(now: Course, engine: Engine) -> Iterator[Bench]:
    """The lab of a lesson. Raises `UsageError` where it is gone."""
    lab = now.progress.lab
    if lab not in read_labs(engine, lab):
        number = (now.progress.present or 0) + 1
        raise UsageError(
            f"there is no lab {lab}, which this lesson looks at",
            hint=f"testbed lesson start {now.name} brings it up again, to where task {number} begins",
        )
    with opened(engine, lab, now.loaded.topology, now.progress.began) as bench:
        yield bench


@dataclass(frozen=True)
class Checked:
    """What `check` came to."""

    outcomes: list[Outcome]
    task: int
    """The index of the task that was checked."""
    course: Course
    """Where the learner is now."""

    @property
    def passed(self) -> bool:
        """Whether the task is done."""
        return all(one.held for one in self.outcomes)


def check(now: Course, engine: Engine, given: str | None) -> Checked:
    """Check the present task; where all of it holds, the next one begins. Raises `UsageError`."""
    index, task = now.present, now.task
    if given is not None and task.answer is None:
        raise UsageError("this task asks no question", hint="testbed lesson check, without an answer")
    with _bench(now, engine) as bench:
        outcomes = check_task(bench, task, now.place, now.progress.seen, given)
        now = noted(now, index, attempts=now.progress.tasks[index].attempts + 1)
        if all(one.held for one in outcomes):
            # Written together with the beginning of the next task, without which that could not be checked.
            now = _begin(changed(now, index, passed=time.time()), bench)
    return Checked(outcomes, index, now)


def next_hint(now: Course) -> tuple[int, Course]:
    """The index of the hint to show, which is counted; the last one stays."""
    index, task = now.present, now.task
    shown = now.progress.tasks[index].hints
    if shown < len(task.hints):
        now = noted(now, index, hints=shown + 1)
    return min(shown, len(task.hints) - 1), now


def solution(now: Course, engine: Engine, *, apply: Command | None = None) -> tuple[str | None, Course]:
    """Note that the solution was shown, and carry it out with `apply`; return the right answer, if any.

    Raises `StepError` where a step cannot be done.
    """
    index, task = now.present, now.task
    now = noted(now, index, solution=True)
    right = None
    if apply is not None or task.answer is not None:
        with _bench(now, engine) as bench:
            if apply is not None:
                carry_out(now, bench, index, apply)
            if task.answer is not None:
                at = next(number for number, one in enumerate(task.checks) if one.answer)
                try:
                    right = right_answer(bench, task.answer, (*now.place, "checks", at, "answer", "from"))
                except StepError:
                    if apply is not None:
                        raise  # else the answer is there once the rest is done
    return right, now


def stop(now: Course, engine: Engine, telling: Telling) -> bool:
    """Remove the lab of a lesson; the progress stays. Returns whether there was anything to remove."""
    return bool(remove_labs(engine, now.progress.lab, progress=telling))
