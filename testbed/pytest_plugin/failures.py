"""What a test that failed leaves to look at: a folder of evidence, and what pytest's report says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from testbed.errors import TestbedError, writing
from testbed.evidence.folder import CAPTURES, RunFolder, capture_path
from testbed.evidence.record import write_text
from testbed.evidence.run import EventRecord
from testbed.experiment.evidence import Evidence, event_record
from testbed.packet.pcap import write_pcap
from testbed.pytest_plugin.laboratory import Lab
from testbed.report.ladder import build_ladder
from testbed.report.ladder_text import ladder_lines
from testbed.topology.loaded import LoadedTopology

Section = tuple[str, str]
"""Title and text of a section of a test's report."""

_EVENTS: Final = 20
_LADDER_SECONDS: Final = 10.0
_LADDER_ROWS: Final = 60
TOPOLOGY: Final = "topology.yaml"
LADDER: Final = "ladder.txt"


def keep_evidence(lab: Lab, folder: Path) -> list[Section]:
    """Write what is known of a lab since the present test began; return what its report is to say.

    The folder holds events.jsonl, steps.jsonl, captures/, topology.yaml and ladder.txt.
    """
    lab.changed = True  # a test that failed may have left anything
    events = [event_record(entry) for entry in lab.events]
    problems = []
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob(f"{CAPTURES}/*.pcap"):  # of an earlier session
                old.unlink()
        Evidence.write_events(folder, events)
        Evidence.write_steps(folder, lab.steps)
        write_text(folder / TOPOLOGY, lab.topology.text())
        try:
            for tap in lab.recorded():
                path = folder / capture_path(tap.name)
                with writing(path):
                    path.parent.mkdir(exist_ok=True)
                    write_pcap(path, tap.linktype, tap.frames)
        except TestbedError as error:
            problems.append(f"no captures: {error.message}")
        ladder = "\n".join(_ladder(folder, lab.topology))
        write_text(folder / LADDER, ladder + "\n")
    except TestbedError as error:
        return [(f"testbed: {lab.name}", f"no evidence: {error}")]
    where = "\n".join([f"evidence: {folder}", *problems])
    return [
        (f"testbed: {lab.name}, a lab of {lab.topology.name}", where),
        ("testbed: last events", "\n".join(_events(events)) or "none since the test began"),
        ladder_section(folder, lab.topology),
    ]


def ladder_section(folder: Path, topology: LoadedTopology) -> Section:
    """The ladder of the last seconds of a run, for a test's report."""
    lines = list(_ladder(folder, topology, _LADDER_SECONDS))
    left_out = len(lines) - _LADDER_ROWS
    shown = [f"… {left_out} rows before"] if left_out > 0 else []
    shown += lines[-_LADDER_ROWS:]
    return f"testbed: ladder of the last {_LADDER_SECONDS:g} s", "\n".join(shown) or "nothing was seen"


def _ladder(folder: Path, topology: LoadedTopology, seconds: float | None = None) -> Iterator[str]:
    return ladder_lines(build_ladder(RunFolder(folder), topology.topology, roles=topology.roles), seconds)


def _events(events: Sequence[EventRecord]) -> Iterator[str]:
    for event in sorted(events, key=lambda one: one.wall)[-_EVENTS:]:
        stamp = datetime.fromtimestamp(event.wall).strftime("%H:%M:%S.%f")[:-3]
        fields = " ".join(f"{key}={value}" for key, value in event.fields.items() if value is not None)
        yield f"{stamp}  {event.node} {event.source}  {event.name}  {fields}".rstrip()
