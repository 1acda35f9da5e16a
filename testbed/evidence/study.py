"""The files of a study's results: study.json, and a record of each finished task beside its evidence."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed.evidence.record import Record, Versioned
from testbed.evidence.verdicts import Verdict

STUDY = "study.json"
TASKS = "tasks"
"""The folder of what came of each task."""
CSV, PARQUET = "results.csv", "results.parquet"
"""The table of all rows."""


class Row(Record):
    """One claim that was decided, or one move that was measured."""

    claim: str = ""
    """The claim's name."""
    verdict: Verdict | None = None
    """What it came to."""
    reason: str | None = None
    """Why it is not reproduced."""
    rtt_ms: float | None = None
    """The round-trip time that was set, in ms."""
    measured_rtt_ms: float | None = None
    """The round-trip time to the correspondent node in ms, as the probe found it after the move."""
    move: int | None = None
    """The number of the move at this round-trip time, from 1."""
    from_network: str = ""
    """The network it left."""
    to_network: str = ""
    """The network it joined."""
    outage_ms: float | None = None
    """The gap in the probe's packets in ms; null: it did not end."""
    lost: int | None = None
    """Packets of the probe that were lost in it."""
    state: str = ""
    """The state the mobile node settled in."""
    late_ms: float | None = None
    """How late a timer was during the run, at most, in ms."""
    cpu_pressure_percent: float | None = None
    """Share of the run in which something waited for a processor; null where the kernel does not say."""
    marks: str = ""
    """What speaks against the numbers of its run."""


class StudyTask(Record):
    """One task of a study: what is varied, and what is done."""

    key: str
    """What it is known by: a hash of topology, options, work, seed, image and version."""
    kind: Literal["claim", "handoff"]
    """Whether it decides a claim or measures hand-offs."""
    topology: str
    """The topology's name."""
    solution: str = ""
    """The solution, where the topology is one."""
    stack: str = ""
    """The stack that is measured."""
    claim: str = ""
    """The claim that is decided."""
    options: dict[str, str] = Field(default_factory=dict)
    """Option → value, of those that the study varies."""
    repetition: int = 1
    """Which repetition it belongs to, from 1."""
    seed: int = 1
    """The seed of that repetition: it decides the order of tasks, and of round-trip times in each."""

    @property
    def what(self) -> str:
        """The task in a few words."""
        words = [self.topology, self.claim or self.stack, *(f"{k}={v}" for k, v in self.options.items())]
        return f"{' '.join(filter(None, words))} #{self.repetition}"

    @property
    def evidence(self) -> str:
        """Its evidence, relative to the folder of the results, which `testbed report` and `judge` read."""
        return f"{TASKS}/{self.key}.tar.zst"


class TaskRecord(Versioned):
    """What came of a task, and where."""

    task: StudyTask
    """The task."""
    seconds: float
    """How long it took, labs and all."""
    finished: str = ""
    """When it ended, as ISO 8601 with a time zone."""
    testbed: str = ""
    """The version of the testbed that carried it out."""
    worker: str = ""
    """The address of the Dask worker."""
    host: str = ""
    """The machine of the engine."""
    engine: str = ""
    """The engine and its version."""
    kernel: str = ""
    """The kernel of that machine."""
    cpu: str = ""
    """The model of its processors."""
    load: float | None = None
    """Its load before the first run."""
    image: str = ""
    """The image of the nodes."""
    image_id: str = ""
    """The digest by which the engine knows that image."""
    rows: list[Row]
    """What was found out."""


class StudyRecord(Versioned):
    """study.json: what the results in the folder belong to."""

    name: str
    """The study's name."""
    title: str = ""
    """What it is about."""
    tasks: list[StudyTask]
    """Its tasks, in the order in which they are begun."""
