"""The page of a study: outages as small multiples, verdicts as a grid, what is missing, and the machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, get_args

from testbed.evidence.study import StudyRecord, StudyTask, TaskRecord
from testbed.evidence.verdicts import Verdict
from testbed.report.intervals import LEAST_VALUES, SAMPLES, wilson
from testbed.report.multiples import LEAST_RTTS, RTT, by_size, figures, samples
from testbed.report.templates import environment

_WORST_FIRST: Final[tuple[Verdict, ...]] = ("refuted", "inconclusive", "reproduced")


@dataclass(frozen=True)
class Repetition:
    """One task of a cell: what it came to, and where its evidence is."""

    task: StudyTask
    verdict: Verdict | None
    """None where it is missing."""
    reason: str


@dataclass(frozen=True)
class Cell:
    """All repetitions of a claim with the same options."""

    repetitions: tuple[Repetition, ...]

    def count(self, verdict: Verdict | None) -> int:
        """How many came to a verdict; of None, how many are missing."""
        return sum(one.verdict == verdict for one in self.repetitions)

    @property
    def verdict(self) -> Verdict | None:
        """The worst of all; None where all are missing."""
        return next((one for one in _WORST_FIRST if self.count(one)), None)

    @property
    def decided(self) -> int:
        """How many are reproduced or refuted."""
        return self.count("reproduced") + self.count("refuted")

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of the share that is reproduced, of those that were decided."""
        return wilson(self.count("reproduced"), self.decided) if self.decided else None


@dataclass(frozen=True)
class ClaimRow:
    """A claim in one topology with the same options, but for that of the columns."""

    topology: str
    claim: str
    stack: str
    options: Mapping[str, str]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ClaimGrid:
    """All claims of a study: a row for each, a column for each value of the option with most values."""

    option: str
    """The option of the columns; empty: the study varies none."""
    values: tuple[str, ...]
    rows: tuple[ClaimRow, ...]


@dataclass(frozen=True)
class Missing:
    """Tasks that differ in nothing but their repetition, some of which are not finished."""

    task: StudyTask
    repetitions: tuple[int, ...]


@dataclass(frozen=True)
class Machine:
    """Tasks that were carried out on one machine, by one engine and image."""

    record: TaskRecord
    """One of its tasks."""
    tasks: int
    load: float | None
    """Its median load before a task."""
    late_ms: float | None
    """How late a timer was at most, in ms."""


def render_study(study: StudyRecord, finished: Sequence[TaskRecord], *, links: bool = True) -> str:
    """The page; `links` if it will lie in the folder of the results, so that it can point to the evidence."""
    measured = samples(finished)
    ended = max((one.finished for one in finished), default="")
    versions = ", ".join(dict.fromkeys(one.testbed for one in finished if one.testbed))
    return (
        environment()
        .get_template("study.html.j2")
        .render(
            heading=f"Study {study.name}: {len(finished)} of {len(study.tasks)} tasks finished",
            when=(f", {ended[:10]}" if ended else "") + (f", testbed {versions}" if versions else ""),
            study=study,
            counts=_counts(finished),
            samples=measured,
            figures=figures(measured),
            rtt=RTT,
            least_rtts=LEAST_RTTS,
            grid=claim_grid(study, finished),
            missing=missing(study, finished),
            machines=machines(finished),
            least=LEAST_VALUES,
            drawn=SAMPLES,
            links=links,
        )
    )


def _counts(finished: Iterable[TaskRecord]) -> dict[str, int]:
    """How many claims came to each verdict; nothing where the study has none."""
    found = [row.verdict for one in finished for row in one.rows if row.verdict]
    return {verdict: found.count(verdict) for verdict in get_args(Verdict)} if found else {}


def claim_grid(study: StudyRecord, finished: Iterable[TaskRecord]) -> ClaimGrid | None:
    """The verdicts of all claims of a study, what is missing among them; None where it has no claims."""
    tasks = [one for one in study.tasks if one.kind == "claim"]
    if not tasks:
        return None
    records = {one.task.key: one for one in finished}
    values: dict[str, set[str]] = {}
    for task in tasks:
        for option, value in task.options.items():
            values.setdefault(option, set()).add(value)
    column = max(values, key=lambda option: len(values[option]), default="")
    columns = sorted(values.get(column, {""}), key=by_size)

    def rest(task: StudyTask) -> dict[str, str]:
        return {option: value for option, value in task.options.items() if option != column}

    def key(task: StudyTask) -> tuple[str, ...]:
        return (task.topology, task.claim, task.stack, *rest(task).values())

    alike: dict[tuple[str, ...], list[StudyTask]] = {}
    for task in tasks:
        alike.setdefault(key(task), []).append(task)
    rows = []
    for _, these in sorted(alike.items(), key=lambda each: [by_size(text) for text in each[0]]):
        cells: dict[str, list[Repetition]] = {value: [] for value in columns}
        for task in sorted(these, key=lambda task: task.repetition):
            if (value := task.options.get(column, "")) in cells:
                cells[value].append(_repetition(task, records.get(task.key)))
        first, done = these[0], tuple(Cell(tuple(several)) for several in cells.values())
        rows.append(ClaimRow(first.topology, first.claim, first.stack, rest(first), done))
    return ClaimGrid(column, tuple(columns), tuple(rows))


def _repetition(task: StudyTask, record: TaskRecord | None) -> Repetition:
    if record is None or not record.rows:
        return Repetition(task, None, "")
    row = record.rows[0]
    return Repetition(task, row.verdict, row.reason or "")


def missing(study: StudyRecord, finished: Iterable[TaskRecord]) -> list[Missing]:
    """What is not finished, in the study's order."""
    done = {one.task.key for one in finished}
    found: dict[str, list[StudyTask]] = {}
    for task in study.tasks:
        if task.key not in done:
            alike = task.model_copy(update={"repetition": 0, "seed": 0, "key": ""})
            found.setdefault(alike.model_dump_json(), []).append(task)
    return [Missing(tasks[0], tuple(sorted(task.repetition for task in tasks))) for tasks in found.values()]


def machines(finished: Iterable[TaskRecord]) -> list[Machine]:
    """Where the tasks were carried out, the machine with most of them first."""
    found: dict[tuple[str, ...], list[TaskRecord]] = {}
    for one in finished:
        place = (one.host, one.engine, one.kernel, one.cpu, one.image, one.image_id, one.testbed)
        found.setdefault(place, []).append(one)

    def middle(values: Iterable[float | None], of: Callable[[list[float]], float]) -> float | None:
        known = [value for value in values if value is not None]
        return of(known) if known else None

    made = [
        Machine(
            records[0],
            len(records),
            middle((one.load for one in records), median),
            middle((row.late_ms for one in records for row in one.rows), max),
        )
        for records in found.values()
    ]
    return sorted(made, key=lambda one: -one.tasks)
