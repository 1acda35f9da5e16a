"""Where everything is in an evidence folder, and how it is read; the writer takes the same names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Final

from testbed.agreed import ROAM
from testbed.errors import Source, TestbedError, UsageError
from testbed.evidence.handoff import HandOffs
from testbed.evidence.record import read_lines, read_record
from testbed.evidence.run import CaptureRecord, EventRecord, Observation, RunRecord, StepRecord
from testbed.evidence.verdicts import Kind, Side, Verdicts, run_name
from testbed.evidence.versions import Versions
from testbed.packet.pcap import CaptureError, Frame, read_capture, read_linktype

MARK: Final = ".testbed-evidence"
"""By it a folder is known again whose experiment was interrupted before there were verdicts or numbers."""
VERDICTS: Final = "verdicts.json"
OLD_VERDICTS: Final = "verdicts.old.json"
"""The verdicts of an earlier verification, where a later one was interrupted before it had its own."""
ATTEMPTS: Final = "attempts"
"""The folder of the earlier attempts at claims that were tried again."""
HANDOFF: Final = "handoff.json"
ROLES: Final = "roles"
"""The folder of the manifests of roles."""
VERSIONS: Final = "versions.json"
RUN: Final = "run.json"
EVENTS: Final = "events.jsonl"
STEPS: Final = "steps.jsonl"
OBSERVATIONS: Final = "observations.jsonl"
CAPTURED: Final = "captures.json"
CAPTURES: Final = "captures"


def run_path(claim: str, kind: Kind, number: int = 1) -> str:
    """The folder of a run, relative to the evidence folder, with a slash at its end."""
    return f"claims/{claim}/{run_name(kind, number)}/"


def attempt_path(number: int) -> str:
    """The folder of the runs of an earlier attempt, which have the names there that `run_path` gives."""
    return f"{ATTEMPTS}/{number}"


def topology_path(name: str | None = None) -> str:
    """The file of a topology, relative to the evidence folder; without a name that of the claims."""
    return "topology.yaml" if name is None else f"topologies/{name}.yaml"


def capture_path(tap: str) -> str:
    """The capture of a tap NODE/NETWORK, relative to the folder of its run."""
    return f"{CAPTURES}/{tap.replace('/', '-')}.pcap"


def is_inside(name: str) -> bool:
    """Whether a name that evidence gives to a file is one inside the folder that the name is relative to."""
    place = PurePosixPath(name)
    leads_out = place.is_absolute() or ".." in place.parts or "\\" in name
    return bool(place.parts) and not leads_out and "\0" not in name


def is_evidence(folder: Path) -> bool:
    """Whether a folder holds evidence, or what an experiment that was interrupted left of it."""
    return any((folder / name).is_file() for name in (MARK, VERDICTS, HANDOFF))


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run of one claim. What is missing is empty or None."""

    folder: Path

    @cached_property
    def recording(self) -> Path:
        """The folder with captures, events and steps: its own, or that of the run it shares them with."""
        shared = self.record.recorded if self.record else ""
        return self.folder.parents[2] / shared if shared and is_inside(shared) else self.folder

    @cached_property
    def record(self) -> RunRecord | None:
        """run.json."""
        return read_record(RunRecord, self.folder / RUN)

    @cached_property
    def captured(self) -> CaptureRecord | None:
        """captures.json."""
        return read_record(CaptureRecord, self.recording / CAPTURED)

    @cached_property
    def observations(self) -> list[Observation]:
        """The looks that decided something, in order."""
        return list(read_lines(Observation, self.folder / OBSERVATIONS))

    @cached_property
    def arrived(self) -> list[EventRecord]:
        """Every event of the nodes, in the order of arrival."""
        return list(read_lines(EventRecord, self.recording / EVENTS))

    @cached_property
    def events(self) -> list[EventRecord]:
        """Every event of the nodes, in the order of time."""
        return sorted(self.arrived, key=lambda event: event.wall)

    @cached_property
    def steps(self) -> list[StepRecord]:
        """The steps taken."""
        return list(read_lines(StepRecord, self.recording / STEPS))

    def frames(self, file: str) -> list[Frame]:
        """The frames of one capture, by its path in this folder. Raises `CaptureError`, also for a part."""
        if not is_inside(file):
            raise CaptureError(f"{file!r} is no file of the evidence")
        return read_capture(self.recording / file, whole=True)

    def linktype(self, file: str) -> int:
        """The link type of one capture, by its path in this folder. Raises `CaptureError`."""
        return read_linktype(self.recording / file)

    def captures(self) -> Iterator[tuple[Path, list[Frame] | CaptureError]]:
        """The file (NODE-NETWORK.pcap) and the frames of every capture, or why it cannot be read."""
        for file in sorted(self.recording.glob(f"{CAPTURES}/*.pcap*")):
            try:
                yield file, read_capture(file)
            except CaptureError as error:
                yield file, error

    @property
    def path(self) -> list[str]:
        """The networks the mobile node went to, in order."""
        places = [str(e.fields["network"]) for e in self.events if e.source == ROAM and "network" in e.fields]
        return [place for before, place in zip([None, *places], places, strict=False) if place != before]


@dataclass(frozen=True)
class EvidenceFolder:
    """An evidence folder. Reading what is malformed raises `TestbedError` with the place of the fault."""

    folder: Path

    @cached_property
    def verdicts(self) -> Verdicts | None:
        """What `verify` or `matrix` found, if it ran."""
        return read_record(Verdicts, self.folder / VERDICTS)

    @cached_property
    def handoffs(self) -> HandOffs | None:
        """What `measure handoff` found, if it ran."""
        return read_record(HandOffs, self.folder / HANDOFF)

    @cached_property
    def versions(self) -> Versions | None:
        """With what the evidence was made."""
        return read_record(Versions, self.folder / VERSIONS)

    def file(self, name: str) -> Path:
        """A file by the name that another file of the folder has for it.

        Raises `TestbedError` for a name that leads out of the folder.
        """
        if not is_inside(name):
            raise TestbedError(f"{name!r} is no file of the evidence", source=Source(str(self.folder)))
        return self.folder / name

    @property
    def written(self) -> datetime | None:
        """When the experiment ended; without `finished` in versions.json the time of its file."""
        with suppress(ValueError):
            return datetime.fromisoformat(self.versions.finished if self.versions else "")
        for name in (VERDICTS, HANDOFF):
            if (file := self.folder / name).is_file():
                return datetime.fromtimestamp(file.stat().st_mtime).astimezone()
        return None

    def run(self, claim: str, name: str) -> RunFolder:
        """The folder of a run (main, control, main-2 …), which may be missing: then it is empty."""
        return RunFolder(self.folder / "claims" / claim / name)

    def runs(self, claim: str, side: Side) -> list[tuple[str, RunFolder]]:
        """Every run of one side of a claim that the folder has, with its name; at least the first."""
        found: list[tuple[str, RunFolder]] = [(side, self.run(claim, side))]
        while (following := self.run(claim, name := f"{side}-{len(found) + 1}")).folder.is_dir():
            found.append((name, following))
        return found

    def check(self) -> None:
        """Raise `UsageError` unless it is a folder with verdicts or numbers in it."""
        if not self.folder.is_dir():
            there = (
                f"{self.folder} is no folder" if self.folder.exists() else f"there is no folder {self.folder}"
            )
            raise UsageError(there, hint="testbed verify NAME --evidence DIR writes evidence")
        if self.verdicts is None and (self.folder / OLD_VERDICTS).is_file() and self.handoffs is None:
            raise UsageError(
                f"{self.folder} has no verdicts: the last verification into it was interrupted",
                hint=f"verify into it again; {OLD_VERDICTS} has the verdicts before that",
            )
        if self.verdicts is None and self.handoffs is None:
            raise UsageError(
                f"{self.folder} has neither {VERDICTS} nor {HANDOFF}",
                hint="name the folder that verify or measure wrote its evidence to",
            )
