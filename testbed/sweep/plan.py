"""From a study to its tasks: every combination loaded and checked, each task with the key it is known by."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from testbed.api import Claims, HandOff, Task
from testbed.document.marks import Marks
from testbed.document.read import load_document, place, validate_model
from testbed.engine.image import node_image_name
from testbed.errors import ErrorGroup, Source, TestbedError, TopologyError, UsageError, raise_errors
from testbed.evidence.study import StudyRecord, StudyTask, TaskRecord
from testbed.experiment.claims.plan import LAB_SECONDS, RUN_SECONDS
from testbed.experiment.versions import own_version
from testbed.sweep.assignment import Assignment, Bundle, bundle, work_facts
from testbed.sweep.model import Study
from testbed.topology.load import relative_to
from testbed.topology.loaded import LoadedTopology

MOST_TASKS: Final = 100_000
_MOVE_SECONDS: Final = 2.0
"""About what a move takes, with the wait for traffic before it."""


@dataclass(frozen=True)
class Plan:
    """A study with all of its tasks, in the order in which they are begun."""

    study: Study
    assignments: Sequence[Assignment]

    @property
    def record(self) -> StudyRecord:
        """As study.json has it."""
        tasks = [one.task for one in self.assignments]
        return StudyRecord(name=self.study.name, title=self.study.title, tasks=tasks)

    def only(self, key: str) -> Plan:
        """The plan with one of its tasks. Raises `UsageError` where it has none with this key."""
        if not (chosen := [one for one in self.assignments if one.task.key == key]):
            raise UsageError(
                f"the study has no task {key}", hint="testbed sweep plan STUDY -o json lists the keys"
            )
        return Plan(self.study, chosen)


@dataclass(frozen=True, slots=True)
class _Cell:
    """One combination, whatever its repetition."""

    task: StudyTask
    bundle: Bundle
    sets: tuple[str, ...]
    work: Claims | HandOff
    text: str  # of the topology with all that was chosen


def load_plan(file: Path) -> Plan:
    """Read a study and expand it; every combination is loaded and checked.

    Raises `TopologyError` with the place in the study, several at once, and `UsageError`.
    """
    document = load_document(file, str(file), tuple(Study.model_fields))
    marks = document.marks
    study = validate_model(Study, document.data, marks)
    if not study.claims and study.handoff is None:
        raise TopologyError(
            "the study finds nothing out: `claims` or `handoff` is missing",
            hint="handoff: {rtt: [0ms, 40ms], moves: 5}",
            source=marks.value(()),
        )
    cells = list(_cells(study, file, marks))
    count = len(cells) * study.repetitions
    if not cells:
        raise TopologyError("no claim speaks of these stacks", source=marks.value(("stacks",)))
    if count > MOST_TASKS:
        raise TopologyError(
            f"expected at most {MOST_TASKS} tasks, got {count}", source=marks.value(("repetitions",))
        )
    image, version = node_image_name(), own_version()
    assignments = []
    for repetition in range(1, study.repetitions + 1):
        # In blocks, each in an order of its own: what changes with time is no difference between tasks.
        seed = study.seed + repetition - 1
        block = list(cells)
        random.Random(seed).shuffle(block)
        assignments += [_assign(study, cell, repetition, seed, image, version) for cell in block]
    return Plan(study, assignments)


def _cells(study: Study, file: Path, marks: Marks) -> Iterator[_Cell]:
    errors: list[TestbedError] = []
    for index, ref in enumerate(study.topologies):
        where = relative_to(file.parent, ref)
        for values in itertools.product(*study.options.values()):
            options = dict(zip(study.options, values, strict=True))
            sets = tuple(f"{name}={value}" for name, value in options.items())
            places = {f"--set {text}": _value(study, marks, text) for text in sets}
            try:
                yield from _combination(study, where, options, sets)
            except TestbedError as error:
                found = error.errors if isinstance(error, ErrorGroup) else (error,)
                errors += [_placed(one, places, marks, index) for one in found]
    unique = {str(error): error for error in errors}  # one wrong value is in many combinations
    raise_errors(sorted(unique.values(), key=place))


def _value(study: Study, marks: Marks, text: str) -> Source:
    """Where the study has the value of an option."""
    name, _, value = text.partition("=")
    return marks.value(("options", name, study.options[name].index(value)))


def _placed(error: TestbedError, places: Mapping[str, Source], marks: Marks, topology: int) -> TestbedError:
    """An error where the study caused it; what is wrong with a topology itself stays where that is."""
    source = places.get(error.source.file) if error.source else None
    if source is None and isinstance(error, UsageError):
        source = marks.value(("topologies", topology))
    if source is None:
        return error
    return TopologyError(error.message, hint=error.hint, source=source)


def _combination(
    study: Study, ref: str, options: Mapping[str, str], sets: tuple[str, ...]
) -> Iterator[_Cell]:
    def cell(loaded: LoadedTopology, work: Claims | HandOff, stack: str, claim: str = "") -> _Cell:
        task = StudyTask(
            key="",
            kind="claim" if claim else "handoff",
            topology=loaded.name,
            solution=loaded.name if loaded.topology.guidelines else "",
            stack=stack,
            claim=claim,
            options=dict(options),
        )
        return _Cell(task, bundle(ref, loaded), sets, work, loaded.text())

    if study.claims:
        asked = Claims(tuple(study.claims), tuple(study.stacks))
        scenario = asked.plan(Task(ref, asked, sets))
        for claim, one in scenario.claims.items():
            stack = (one.configuration.stack if one.configuration else None) or ""
            work = Claims((claim,), retries=study.retries)
            yield cell(scenario.loaded, work, stack, claim)
    wanted = study.handoff
    for asked_for in (study.stacks or ("",)) if wanted else ():
        assert wanted is not None
        handoff = HandOff(tuple(wanted.rtt), wanted.moves, asked_for, tuple(wanted.between))
        for plan in handoff.plan(Task(ref, handoff, sets)):
            yield cell(plan.topology, handoff, plan.stack)


def _assign(study: Study, cell: _Cell, repetition: int, seed: int, image: str, version: str) -> Assignment:
    """The task of one repetition, with its key: equal keys are equal tasks, whatever study they belong to."""
    facts = work_facts(cell.work)
    parts = [cell.text, cell.bundle.files, cell.sets, facts, seed, image, version]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
    if isinstance(cell.work, HandOff):
        rtts = list(cell.work.rtts)
        random.Random(f"{seed} {key}").shuffle(rtts)
        facts["rtts"] = rtts
    task = cell.task.model_copy(update={"key": key, "repetition": repetition, "seed": seed})
    return Assignment(
        study=study.name, task=task, bundle=cell.bundle, sets=list(cell.sets), work=facts, image=image,
        version=version,
    )  # fmt: skip


def expected_seconds(one: Assignment, earlier: Sequence[TaskRecord]) -> float:
    """About how long a task will take: the median of earlier ones that are alike, else a guess."""
    task = one.task
    alike = [each for each in earlier if each.task.kind == task.kind]
    for same in (
        lambda other: (other.topology, other.claim, other.stack, other.options),
        lambda other: (other.topology, other.claim, other.stack),
        lambda other: other.topology,
        lambda other: other.kind,
    ):
        if found := [each.seconds for each in alike if same(each.task) == same(task)]:
            return median(found)
    if task.kind == "claim":
        return 2 * (LAB_SECONDS + RUN_SECONDS)
    rtts, moves = one.work["rtts"], one.work["moves"]
    assert isinstance(rtts, (list, tuple)) and isinstance(moves, int)
    return LAB_SECONDS + sum(moves * (_MOVE_SECONDS + 5 * float(rtt) / 1000) for rtt in rtts)
