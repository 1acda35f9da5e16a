"""Writes the evidence folder, whose files `testbed.evidence` describes."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel

from testbed.errors import UsageError, cannot_write
from testbed.evidence import folder as names
from testbed.evidence import wireshark
from testbed.evidence.record import write_lines, write_record
from testbed.evidence.run import CaptureRecord, EventRecord, Observation, RunRecord, StepRecord
from testbed.evidence.verdicts import Kind
from testbed.lab.access import Entry
from testbed.render import RenderedLab
from testbed.topology.loaded import LoadedTopology


class Evidence:
    """Writes one evidence folder; several threads may write different runs."""

    def __init__(self, root: Path, *, keys: bool = False) -> None:
        """Make the folder; `keys` lets the labs' keys into it.

        Raises `UsageError` where it is a file, holds something that is no evidence, or cannot be written.
        """
        self.root = root
        self.keys = keys
        self._lock = threading.Lock()
        self._topologies: dict[str, str] = {}  # text → file
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is not a folder")
        if root.is_dir() and any(root.iterdir()) and not names.is_evidence(root):
            raise UsageError(f"{root} is not empty and holds no evidence", hint="choose another folder")
        try:
            root.mkdir(parents=True, exist_ok=True)
            (root / names.MARK).touch()
        except OSError as error:
            raise cannot_write(root, error) from error

    def run_folder(self, claim: str, kind: Kind, number: int = 1) -> Path:
        """The folder of a run, made if need be; what an earlier verification left in it is removed."""
        folder = self.root / names.run_path(claim, kind, number)
        folder.mkdir(parents=True, exist_ok=True)
        for old in [
            *folder.glob("*.json*"),
            *folder.glob(f"{names.CAPTURES}/*.pcap"),
            *folder.glob(f"{wireshark.FOLDER}/*"),
        ]:
            old.unlink()
        return folder

    def write_topology(self, text: str, name: str | None = None) -> None:
        """The claims' own topology, or one called `name`."""
        path = names.topology_path(name)
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        self._topologies.setdefault(text, path)

    def keep_topology(self, loaded: LoadedTopology) -> str:
        """The file of a lab's topology, relative to the folder; it is written unless the folder has it.

        Labs of one name that differ have files of their own.
        """
        text = loaded.text()
        with self._lock:
            if text not in self._topologies:
                taken = set(self._topologies.values())
                name, number = loaded.name, 1
                while names.topology_path(name) in taken:
                    number += 1
                    name = f"{loaded.name}-{number}"
                self.write_topology(text, name)
            return self._topologies[text]

    def write_rendered(self, lab: RenderedLab) -> None:
        """Every file of every node of a lab as it was rendered, with the permissions it has in the node."""
        for node in lab.nodes.values():
            for path, file in node.files.items():
                file.write(self.root / "rendered" / lab.name / node.name / path.lstrip("/"))

    def write(self, name: str, record: BaseModel) -> None:
        """A JSON document at the root."""
        write_record(self.root / name, record)

    @staticmethod
    def write_run(folder: Path, record: RunRecord) -> None:
        """What else is needed to decide a run again."""
        write_record(folder / names.RUN, record)

    @staticmethod
    def write_captured(folder: Path, record: CaptureRecord) -> None:
        """How the captures of a run went."""
        write_record(folder / names.CAPTURED, record)

    @staticmethod
    def write_events(folder: Path, events: Iterable[EventRecord]) -> None:
        """The event log of a run, in the order of arrival."""
        write_lines(folder / names.EVENTS, events)

    @staticmethod
    def write_observations(folder: Path, observations: Iterable[Observation]) -> None:
        """The looks that decide a run, in the order of time."""
        write_lines(folder / names.OBSERVATIONS, observations)

    @staticmethod
    def write_session_keys(folder: Path, associations: Iterable[wireshark.EspSa | wireshark.IkeSa]) -> None:
        """What Wireshark needs to decrypt the captures of a run."""
        wireshark.write_tables(folder / wireshark.FOLDER, associations)

    @staticmethod
    def write_steps(folder: Path, steps: Iterable[StepRecord]) -> None:
        """The steps of a run."""
        write_lines(folder / names.STEPS, steps)


def event_record(entry: Entry) -> EventRecord:
    """An event as it stands in the evidence."""
    return EventRecord.model_validate(
        {
            **entry.event.fields,
            "node": entry.node,
            "event": entry.event.name,
            "source": entry.event.source,
            "wall": entry.event.time,
        }
    )
