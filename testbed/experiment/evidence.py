"""The evidence folder: everything needed to argue with a verdict. What a report reads is written here.

verdicts.json                           what `-o json` of `verify` or `matrix` prints; of each run the
                                        health: late_ms, cpu_pressure_percent, clock_step_ms, dropped
versions.json                           the engine, the programs and what carries packets, per lab
topology.yaml                           the topology the claims stand in, includes and changes written out
rendered/LAB/NODE/PATH                  every file of every node of every lab; keys only if asked for
topologies/NAME.yaml                    other topologies that runs took place in; of a matrix, every scenario
claims/ID/main|control/events.jsonl     every event of every node during the run
claims/ID/main|control/steps.jsonl      what was done when, and what came of it
claims/ID/main|control/captures/NODE-NETWORK.pcap
claims/ID/main-2|control-2/…            the second of several runs, and so on
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from testbed.claim.claims import Kind
from testbed.errors import UsageError, cannot_write
from testbed.experiment.verdict import run_name
from testbed.lab.access import Entry
from testbed.render import RenderedLab

_MARK: Final = ".testbed-evidence"
"""By it a folder is known again whose experiment was interrupted before there were verdicts or numbers."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step as it was carried out; times in seconds since the epoch."""

    step: str  # the word
    text: str
    began: float
    ended: float
    result: str

    def to_json(self) -> dict[str, Any]:
        """As it stands in steps.jsonl."""
        return {
            "step": self.step,
            "text": self.text,
            "began": self.began,
            "ended": self.ended,
            "result": self.result,
        }


class Evidence:
    """Writes one evidence folder; several threads may write different runs."""

    def __init__(self, root: Path, *, keys: bool = False) -> None:
        """Make the folder; `keys` lets the labs' keys into it.

        Raises `UsageError` where it is a file, holds something that is no evidence, or cannot be written.
        """
        self.root = root
        self.keys = keys
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is not a folder")
        mine = any((root / name).is_file() for name in (_MARK, "verdicts.json", "handoff.json"))
        if root.is_dir() and any(root.iterdir()) and not mine:
            raise UsageError(f"{root} is not empty and holds no evidence", hint="choose another folder")
        try:
            root.mkdir(parents=True, exist_ok=True)
            (root / _MARK).touch()
        except OSError as error:
            raise cannot_write(root, error) from error

    @staticmethod
    def run_path(claim: str, kind: Kind, number: int = 1) -> str:
        """The folder of a run, relative to the root, with a slash at its end."""
        return f"claims/{claim}/{run_name(kind, number)}/"

    def run_folder(self, claim: str, kind: Kind, number: int = 1) -> Path:
        """The folder of a run, made if need be; what an earlier verification left in it is removed."""
        folder = self.root / self.run_path(claim, kind, number)
        folder.mkdir(parents=True, exist_ok=True)
        for old in [*folder.glob("*.jsonl"), *folder.glob("captures/*.pcap")]:
            old.unlink()
        return folder

    def write_topology(self, text: str, name: str | None = None) -> None:
        """The claims' own topology, or one called `name` that a run took place in."""
        file = self.root / ("topology.yaml" if name is None else f"topologies/{name}.yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def write_rendered(self, lab: RenderedLab) -> None:
        """Every file of every node of a lab as it was rendered, with the permissions it has in the node."""
        for node in lab.nodes.values():
            for path, file in node.files.items():
                file.write(self.root / "rendered" / lab.name / node.name / path.lstrip("/"))

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """A JSON document at the root."""
        text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
        (self.root / name).write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def write_events(folder: Path, entries: Iterable[Entry]) -> None:
        """The event log of a run, in order of time."""
        lines = [
            {
                "node": entry.node,
                "event": entry.event.name,
                "source": entry.event.source,
                "wall": entry.event.time,
                **entry.event.fields,
            }
            for entry in sorted(entries, key=lambda one: one.event.time)
        ]
        _write_lines(folder / "events.jsonl", lines)

    @staticmethod
    def write_steps(folder: Path, steps: Iterable[StepRecord]) -> None:
        """The steps of a run."""
        _write_lines(folder / "steps.jsonl", [one.to_json() for one in steps])


def _write_lines(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    file.write_text("".join(json.dumps(line, default=str) + "\n" for line in lines), encoding="utf-8")
