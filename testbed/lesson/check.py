"""Whether a task is done, by what the learner's lab is now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from testbed.claim.claims import place
from testbed.document.marks import Path
from testbed.errors import StepError
from testbed.lesson.answers import in_kind, is_right, right_answer
from testbed.lesson.bench import Bench
from testbed.lesson.changes import is_changed
from testbed.lesson.model import Answer, Check, Task


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check came to."""

    held: bool
    missing: str = ""
    """What is still missing, for the learner; empty where it holds."""
    observed: str = ""
    """What was seen in its place, for whoever wants to know more."""


def begin_task(bench: Bench, task: Task, where: Path) -> dict[str, Any]:
    """What the checks of a task have to know of its beginning, by place. Raises `StepError`."""
    found = {}
    for path, expectation in _expectations(task, where):
        seen = bench.began(path, expectation)
        if seen is not None:
            found[place(path)] = seen
    return found


def _expectations(task: Task, where: Path) -> list[tuple[Path, Any]]:
    return [
        ((*where, "checks", at, "expect", number), one)
        for at, check in enumerate(task.checks)
        for number, one in enumerate(check.expectations)
    ]


def check_task(
    bench: Bench, task: Task, where: Path, began: Mapping[str, Any], given: str | None
) -> list[Outcome]:
    """Decide every check of a task; `given` is the learner's answer, `began` is of `begin_task`.

    An expectation that cannot be decided, as a daemon does not run, does not hold.
    """
    return [
        _check(bench, check, (*where, "checks", at), began, given) for at, check in enumerate(task.checks)
    ]


def _check(bench: Bench, check: Check, where: Path, began: Mapping[str, Any], given: str | None) -> Outcome:
    try:
        if check.answer:
            return _answered(bench, check, check.answer, where, given)
        if check.changed:
            held = is_changed(bench, check.changed)
            return Outcome(held, "" if held else check.missing)
        if check.run:
            decided = bench.try_out(check.run.steps, check.run.expect, (*where, "run"))
        else:
            decided = []
            for number, one in enumerate(check.expectations):
                at: Path = (*where, "expect", number)
                decided.append((one, bench.look(at, one, began.get(place(at)))))
    except StepError as error:
        return Outcome(False, check.missing, error.message)
    wrong = [f"{one.phrase()}: {decision.observed}" for one, decision in decided if decision.held is not True]
    return Outcome(not wrong, check.missing if wrong else "", "; ".join(wrong))


def _answered(bench: Bench, check: Check, answer: Answer, where: Path, given: str | None) -> Outcome:
    if given is None:
        return Outcome(False, f"{check.missing.strip()} {answer.question}", "no answer was given")
    problem = in_kind(given, answer, bench.facts)
    if problem:
        return Outcome(False, f"{problem}. {answer.question}", "not of the kind asked for")
    right = right_answer(bench, answer, (*where, "answer", "from"))
    held = is_right(given, right, answer, bench.facts)
    return Outcome(held, "" if held else check.missing, f"answered {given}")
