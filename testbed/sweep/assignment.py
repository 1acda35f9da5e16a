"""A task on its way to a worker, and what comes back: JSON, so that neither side trusts more than text."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pydantic import Field, TypeAdapter

from testbed.api import Claims, HandOff, Task
from testbed.claim.claims import Claim
from testbed.data import data_dir
from testbed.evidence.folder import is_inside
from testbed.evidence.record import Record
from testbed.evidence.study import StudyTask, TaskRecord
from testbed.evidence.verdicts import KINDS
from testbed.topology.include import files_of
from testbed.topology.load import builtin_topologies, is_path
from testbed.topology.loaded import LoadedTopology

_WORK: TypeAdapter[Claims | HandOff] = TypeAdapter(Claims | HandOff)
LAB = "sweep"
"""How the names of labs of sweeps begin."""


class Bundle(Record):
    """A topology that a worker can read wherever it is: a built-in one by name, or files."""

    ref: str
    """The name, or the path of the topology's file among `files`."""
    files: dict[str, str] = Field(default_factory=dict)
    """Path → text of each file of the user's that it is read from."""

    def write(self, folder: Path) -> str:
        """Write its files to a folder; return what names the topology there."""
        for name, text in self.files.items():
            if is_inside(name):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
        return str(folder / self.ref) if self.files else self.ref


class Assignment(Record):
    """What a worker is asked to do."""

    study: str
    """The study's name."""
    task: StudyTask
    """The task, as its record will have it."""
    bundle: Bundle
    """Its topology."""
    sets: list[str]
    """Changes to that, as `--set` takes them."""
    work: dict[str, object]
    """Claims to decide or hand-offs to measure, as `testbed.api` has them."""
    image: str
    """The node image that the study's testbed makes: the worker's must make the same."""
    version: str
    """The version of the study's testbed."""

    def api_task(self, folder: Path) -> Task:
        """The task for `testbed.api.run`; the topology's files go to a folder."""
        work = _WORK.validate_python(self.work)
        lab = f"{LAB}-{self.task.key[:8]}"
        return Task(self.bundle.write(folder), work, tuple(self.sets), lab=lab, study=self.study)


class Trouble(Record):
    """Why a task came to nothing."""

    message: str
    hint: str | None = None
    elsewhere: bool = False
    """Whether it may come to something on another machine, or at another time."""

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class Outcome(Record):
    """What comes back of a task."""

    record: TaskRecord | None = None
    """What came of it."""
    evidence: str = ""
    """The evidence: a .tar.zst in base64."""
    trouble: Trouble | None = None
    """Why nothing came of it."""


def work_facts(work: Claims | HandOff) -> dict[str, object]:
    """The work as an assignment has it."""
    return asdict(work)


def bundle(ref: str, loaded: LoadedTopology) -> Bundle:
    """A topology as it travels, with all files of the user's that it or its claims are read from."""
    if ref in builtin_topologies():
        return Bundle(ref=ref)
    files = dict.fromkeys(_own(Path(ref).resolve(), loaded.topology.claims.values()))
    root = Path(os.path.commonpath([file.parent for file in files]))
    return Bundle(
        ref=Path(ref).resolve().relative_to(root).as_posix(),
        files={file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files},
    )


def _own(file: Path, claims: Iterable[Claim]) -> list[Path]:
    """The files of the user's, those of other topologies that runs of claims name among them."""
    builtin = data_dir("topologies").resolve()
    refs = {
        experiment.topology
        for claim in claims
        for kind in KINDS
        for _, experiment in claim.experiments(kind)
        if experiment.topology and is_path(experiment.topology)
    }
    others = [file.parent / ref for ref in refs]
    found = [one for each in (file, *others) if each.is_file() for one in files_of(each)]
    return [one for one in found if not one.is_relative_to(builtin)]
