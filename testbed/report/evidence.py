"""An evidence folder with the topologies that its claims and labs came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path

from testbed.document.read import load_document, validate_model
from testbed.evidence.folder import EvidenceFolder, RunFolder, topology_path
from testbed.evidence.verdicts import LabFacts
from testbed.topology.model import Topology
from testbed.topology.roles import Role, builtin_roles, load_roles, role_files


class Evidence(EvidenceFolder):
    """An evidence folder as a report reads it."""

    @cached_property
    def topology(self) -> Topology | None:
        """The topology of the claims; None where the folder has none."""
        return self._read(topology_path())

    @cached_property
    def scenarios(self) -> dict[str, Topology]:
        """The topology of each scenario that claims were decided of, as far as the folder has it."""
        verdicts = self.verdicts
        found = {
            name: self.topology if verdicts and name == verdicts.scenario else self._read(topology_path(name))
            for name in (verdicts.by_scenario if verdicts else ())
        }
        return {name: topology for name, topology in found.items() if topology}

    @cached_property
    def _read(self) -> Callable[[str], Topology | None]:
        """Reads a topology file once for this reading of the folder: a later reading may find another."""
        return cache(lambda path: _topology(self.file(path)))

    @cached_property
    def roles(self) -> Mapping[str, Role]:
        """The manifests of roles that the folder has, and the built-in ones."""
        files = role_files(self.folder)
        own = [name for name, file in files.items() if file.is_relative_to(self.folder)]
        return {**builtin_roles(), **load_roles(own, files)}

    def lab(self, name: str) -> LabFacts | None:
        """What the verdicts say of a lab; of several (`a, b`), of the first."""
        return self.verdicts.backends.get(name.partition(", ")[0]) if self.verdicts else None

    def topology_of_run(self, run: RunFolder, lab: str) -> Topology | None:
        """The topology of the lab that a run took place in; in version 1 of `lab`."""
        record = run.record
        return self._read(record.topology) if record and record.topology else self.topology_of(lab)

    def topology_of(self, lab: str) -> Topology | None:
        """The topology a lab was brought up from: the scenario's own, or another that a run needed.

        Of several labs that of the first. Without `file` (version 1) it is found by its name, and what a
        matrix left of the scenario in the same folder is not meant.
        """
        about = self.lab(lab)
        if about and about.file:
            return self._read(about.file)
        if about is None or about.topology in ("", self.verdicts.scenario if self.verdicts else ""):
            return self.topology
        return self._read(topology_path(about.topology)) or self.topology


def read_evidence(folder: Path) -> Evidence:
    """Open an evidence folder. Raises `UsageError` if there is nothing in it to report."""
    evidence = Evidence(folder)
    evidence.check()
    return evidence


def _topology(path: Path) -> Topology | None:
    if not path.is_file():
        return None
    document = load_document(path, str(path))
    return validate_model(Topology, document.data, document.marks)
