"""Writes the evidence folder, whose files `testbed.evidence` describes."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from testbed.errors import UsageError, writing
from testbed.evidence import folder as names
from testbed.evidence import wireshark
from testbed.evidence.record import read_record, write_lines, write_record, write_text
from testbed.evidence.run import CaptureRecord, EventRecord, Observation, RunRecord, StepRecord
from testbed.evidence.verdicts import Kind, Verdicts
from testbed.evidence.versions import Versions
from testbed.lab.access import Entry
from testbed.render import RenderedLab
from testbed.topology.loaded import LoadedTopology
from testbed.topology.roles import manifests, role_files


class Evidence:
    """Writes one evidence folder; several threads may write different runs."""

    def __init__(self, root: Path, *, keys: bool = False) -> None:
        """Make the folder; `keys` lets the labs' keys into it.

        Raises `UsageError` where it is a file, holds something that is no evidence, or cannot be written.
        """
        self.root = root
        self.keys = keys
        self.has_keys = keys  # or an earlier experiment left some
        self._lock = threading.Lock()
        self._topologies: dict[str, str] = {}  # text → file
        self._manifests: set[Path] = set()  # of roles, that are written
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is not a folder")
        if root.is_dir() and any(root.iterdir()) and not names.is_evidence(root):
            raise UsageError(f"{root} is not empty and holds no evidence", hint="choose another folder")
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
            (root / names.MARK).touch()
        with suppress(UsageError):  # an unreadable file is replaced
            earlier = read_record(Versions, root / names.VERSIONS)
            self.has_keys |= earlier is not None and earlier.keys

    def run_folder(self, claim: str, kind: Kind, number: int = 1) -> Path:
        """The folder of a run, made if need be; what an earlier verification left in it is removed."""
        folder = self.root / names.run_path(claim, kind, number)
        with writing(folder):
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
        write_text(self.root / path, text)
        self._topologies.setdefault(text, path)

    def keep_roles(self, loaded: LoadedTopology, *, again: bool = True) -> None:
        """The manifests of a topology's roles, a user's own among them; `again`: those that are there, too.

        They are where a template folder has them.
        """
        for file in manifests(loaded.roles, role_files(loaded.templates)).values():
            target = self.root / names.ROLES / file.name
            if file not in self._manifests and (again or not target.exists()):
                self._manifests.add(file)
                write_text(target, file.read_text(encoding="utf-8"))

    def keep_topology(self, loaded: LoadedTopology) -> str:
        """The file of a lab's topology, relative to the folder; it is written unless the folder has it.

        Labs of one name that differ have files of their own.
        """
        text = loaded.text()
        with self._lock:
            self.keep_roles(loaded)
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
                target = self.root / "rendered" / lab.name / node.name / path.lstrip("/")
                with writing(target):
                    file.write(target)

    def write(self, name: str, record: BaseModel) -> None:
        """A JSON document at the root."""
        write_record(self.root / name, record)

    def begin_verdicts(self) -> None:
        """Take the verdicts of an earlier verification out of force before its runs are replaced.

        They are kept under another name until there are new ones: what an interruption leaves has none.
        """
        old = self.root / names.VERDICTS
        with writing(old):
            if old.is_file():
                old.replace(self.root / names.OLD_VERDICTS)
        attempts = self.root / names.ATTEMPTS
        with writing(attempts):
            if attempts.is_dir():
                shutil.rmtree(attempts)

    def set_aside(self, claim: str, number: int) -> str:
        """Make place for another attempt at a claim; return the folder that has the runs of this one."""
        path = names.attempt_path(number)
        runs = Path("claims", claim)
        with writing(self.root / path):
            (self.root / path / runs).parent.mkdir(parents=True, exist_ok=True)
            (self.root / runs).replace(self.root / path / runs)
        return path

    def write_verdicts(self, verdicts: Verdicts) -> None:
        """The verdicts, whole or not at all, in the place of those of an earlier verification."""
        part = self.root / f"{names.VERDICTS}.part"
        write_record(part, verdicts)
        with writing(self.root / names.VERDICTS):
            part.replace(self.root / names.VERDICTS)
            (self.root / names.OLD_VERDICTS).unlink(missing_ok=True)

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
        with writing(folder / wireshark.FOLDER):
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
