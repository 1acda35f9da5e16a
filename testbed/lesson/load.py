"""From a name or a folder to a lesson that passed every check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testbed.claim.expect import Expectation
from testbed.claim.names import Fail, check_part
from testbed.document.marks import Marks
from testbed.document.marks import Path as Place
from testbed.document.read import dotted, load_document, place, validate_model
from testbed.errors import TestbedError, TopologyError, UsageError, did_you_mean, raise_errors
from testbed.lesson.model import Answer, Difference, Lesson, Reading, Task
from testbed.lesson.shelf import FILE, builtin_lessons, number_of
from testbed.render import REDACTED, render_lab
from testbed.topology.cast import Named
from testbed.topology.load import load_topology, relative_to
from testbed.topology.loaded import LoadedTopology
from testbed.topology.overrides import option_texts

TEXT: Final = "text.md"
_OF_A_RUN: Final = frozenset(("probe", "session", "listen", "rewrite"))
"""Steps whose effect ends with the run that they are part of."""
_FEWEST: Final = 3  # choices, or a guess is as good as a look


@dataclass(frozen=True)
class LoadedLesson:
    """A lesson, its introduction, and its topology."""

    name: str
    folder: Path
    lesson: Lesson
    text: str
    topology: LoadedTopology

    def task(self, index: int) -> Task:
        """One of its tasks, counted from 0."""
        return self.lesson.tasks[index]


def find_lesson(ref: str) -> Path:
    """The folder that `ref` means: a built-in lesson by name or number, a folder, or a lesson.yaml.

    Raises `UsageError` with the nearest name.
    """
    builtin = builtin_lessons()
    if ref in builtin:
        return builtin[ref]
    for folder in builtin.values():
        if ref.isdigit() and number_of(folder) == int(ref):
            return folder
    path = Path(ref)
    folder = path.parent if path.name == FILE else path
    if (folder / FILE).is_file():
        return folder
    if "/" in ref or path.exists():
        raise UsageError(
            f"there is no {FILE} in {folder}", hint="a lesson is a folder with lesson.yaml and text.md"
        )
    raise UsageError(f"there is no lesson {ref}", hint=did_you_mean(ref, builtin))


def load_lesson(ref: str) -> LoadedLesson:
    """Read a lesson and its topology, and check all that can be checked without a lab.

    Every error of a stage is raised at once: `UsageError` for a wrong name, else `TopologyError` with file,
    line and column.
    """
    folder = find_lesson(ref)
    builtin = folder in builtin_lessons().values()
    file = folder / FILE
    document = load_document(file, str(file), tuple(Lesson.model_fields))
    marks = document.marks
    lesson = validate_model(Lesson, document.data, marks)
    try:
        text = (folder / TEXT).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {folder / TEXT}", hint=f"{TEXT} is the introduction") from error
    topology = _topology(lesson, folder, marks)
    _check(lesson, topology, marks)
    return LoadedLesson(folder.resolve().name if not builtin else folder.name, folder, lesson, text, topology)


def _topology(lesson: Lesson, folder: Path, marks: Marks) -> LoadedTopology:
    """The topology of a lesson with its options; what does not fit is an error of the lesson's file."""
    ref = relative_to(folder, lesson.topology)
    try:
        return load_topology(ref, sets=[*option_texts(lesson.options), *lesson.sets])
    except UsageError as error:
        raise TopologyError(error.message, hint=error.hint, source=marks.value(("topology",))) from error


def _check(lesson: Lesson, topology: LoadedTopology, marks: Marks) -> None:
    """Report every name that the topology does not have, and all that a lesson cannot do."""
    errors: list[TestbedError] = []
    known = Named(topology)

    def fail(path: Place, message: str, hint: str | None = None) -> None:
        errors.append(TopologyError(f"{dotted(path)}: {message}", hint=hint, source=marks.value(path)))

    for path, step, ends in lesson.steps():
        step.check(path, known, fail)
        if step.word in _OF_A_RUN and not ends:
            fail(
                path, f"`{step.word}` ends with the run that it is part of", "use it in the `run` of a check"
            )
    for index, task in enumerate(lesson.tasks):
        here: Place = ("tasks", index)
        if sum(check.answer is not None for check in task.checks) > 1:
            fail((*here, "checks"), "a task has one question at most", "make two tasks of it")
        for at, check in enumerate(task.checks):
            there: Place = (*here, "checks", at)
            for number, expectation in enumerate(check.expectations):
                where: Place = (*there, "expect", number)
                where = where if where in marks.at else (*there, "expect")
                expectation.check(where, known, fail)
                if expectation.part.taps(topology):
                    fail(
                        where,
                        f"`{expectation.word}` needs a capture",
                        "write it into the `expect` of a `run`",
                    )
            if check.run:
                _run(check.run.expect, (*there, "run", "expect"), known, fail)
            if check.answer:
                _answer(check.answer, (*there, "answer"), known, topology, fail)
            if check.changed:
                _changed(check.changed, (*there, "changed"), known, topology, fail)
        if not task.solution and task.answer is None:
            fail((*here, "title"), "a task without a question needs a `solution`", None)
    raise_errors(sorted(errors, key=place))


def _run(expectations: Sequence[Expectation], where: Place, known: Named, fail: Fail) -> None:
    for number, expectation in enumerate(expectations):
        expectation.check((*where, number), known, fail)


def _answer(answer: Answer, where: Place, known: Named, topology: LoadedTopology, fail: Fail) -> None:
    source = answer.source
    for way in source.WAYS:
        part = getattr(source, way)
        if isinstance(part, Reading):
            check_part(part, (*where, "from", way), known, fail)
    if source.state and source.state.node in topology.nodes:
        controls = [str(one.control) for one in topology.daemons(source.state.node) if one.control]
        if source.state.service not in controls:
            hint = did_you_mean(source.state.service, controls)
            fail((*where, "from", "state", "service"), f"{source.state.node} has no such daemon", hint)
    if answer.kind != "number":
        for key, given in (("unit", answer.unit), ("tolerance", answer.tolerance)):
            if given:
                fail((*where, key), f"`{key}` is for numbers", "is: number")
    if answer.choices and answer.kind != "word":
        fail((*where, "choices"), "`choices` are for words", "is: word")
    if answer.choices and len(answer.choices) < _FEWEST:
        fail(
            (*where, "choices"),
            f"expected {_FEWEST} choices at least: a guess must not be as good as a look",
            None,
        )
    value = source.value
    if answer.kind == "number" and isinstance(value, str):
        fail((*where, "from", "value"), "expected a number, as `is` says", None)
    if answer.kind == "node" and value is not None and value not in topology.nodes:
        fail((*where, "from", "value"), f"unknown node {value}", did_you_mean(str(value), topology.nodes))
    if answer.kind == "network" and value is not None and value not in topology.networks:
        fail(
            (*where, "from", "value"), f"unknown network {value}", did_you_mean(str(value), topology.networks)
        )
    if answer.choices and value is not None and value not in answer.choices:
        fail(
            (*where, "from", "value"),
            "the answer is none of the choices",
            did_you_mean(str(value), answer.choices),
        )


def _changed(changed: Difference, where: Place, known: Named, topology: LoadedTopology, fail: Fail) -> None:
    check_part(changed, where, known, fail)
    if changed.line is None and changed.gone is None:
        fail(where, "`line` or `gone` says which change counts", "line: REGULAR EXPRESSION")
    if changed.file is not None and changed.node in topology.nodes:
        rendered = render_lab(topology, lab="lesson", secrets=REDACTED, templates=topology.templates)
        files = rendered.nodes[changed.node].files
        if changed.file not in files:
            fail(
                (*where, "file"),
                f"{changed.node} has no rendered file {changed.file}",
                did_you_mean(changed.file, files),
            )
