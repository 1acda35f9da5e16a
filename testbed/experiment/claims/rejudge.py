"""Decides the claims of an evidence folder again, and compares with the verdicts that are stored in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from testbed.claim.claims import Claim, Experiment
from testbed.errors import UsageError, did_you_mean
from testbed.evidence import verdicts as written
from testbed.evidence.folder import EvidenceFolder, run_path, topology_path
from testbed.evidence.record import SCHEMA_VERSION
from testbed.evidence.verdicts import KINDS, Kind, Verdicts, run_name
from testbed.experiment.claims.judge import Recording, judge_run
from testbed.experiment.claims.plan import Scenario, meets
from testbed.experiment.claims.verdict import RunKey, RunResult, claim_results
from testbed.topology.load import load_topology
from testbed.topology.loaded import LoadedTopology
from testbed.topology.names import host_addresses


@dataclass(frozen=True, slots=True)
class Difference:
    """One expectation of which the stored verdict says something else; None: it says nothing of it."""

    run: str
    expectation: str
    stored: written.Finding | None
    now: written.Finding | None


@dataclass(frozen=True)
class Rejudged:
    """A claim, decided again."""

    stored: written.Claim
    now: written.Claim

    @property
    def same(self) -> bool:
        """Whether the verdict is the stored one."""
        return self.now.verdict == self.stored.verdict

    @cached_property
    def differences(self) -> list[Difference]:
        """The findings that are not as stored, in their order."""
        stored, now = self.stored.numbered, self.now.numbered
        return [
            Difference(run, expectation, stored.get(key), now.get(key))
            for key in dict.fromkeys((*stored, *now))
            for run, expectation, _ in [key]
            if (one := stored.get(key)) is None
            or (other := now.get(key)) is None
            or (one.held, one.observed, one.excuse) != (other.held, other.observed, other.excuse)
        ]


def judge_evidence(folder: EvidenceFolder, wanted: Sequence[str] = ()) -> list[Rejudged]:
    """Decide the claims asked for, by names or patterns of names; all of them by default.

    Raises `UsageError` for a claim that the folder has no verdict on, and for a folder that does not hold
    what a decision needs, or holds a malformed file.
    """
    folder.check()
    verdicts = folder.verdicts
    if verdicts is None:
        raise UsageError(f"{folder.folder} holds hand-offs and no claims", hint="testbed report shows it")
    if not verdicts.claims:
        raise UsageError(f"{folder.folder} has no verdict on any claim", hint="verify decides at least one")
    if verdicts.schema_version < SCHEMA_VERSION:
        raise UsageError(
            f"{folder.folder} was written by an older testbed, which did not record what verdicts were "
            f"decided from (schema version {verdicts.schema_version})",
            hint="testbed report shows it; to judge its claims verify them again",
        )
    stored = {claim.id: claim for claim in verdicts.claims}
    for name in wanted:
        if not any(meets(one, [name]) for one in stored):
            hint = did_you_mean(name, stored)
            raise UsageError(f"{folder.folder} has no verdict on a claim {name}", hint=hint)
    judge = _Judge(folder, verdicts)
    return [judge.decide(claim) for name, claim in stored.items() if meets(name, wanted)]


@dataclass(frozen=True)
class _Judge:
    """Reads a folder; every topology once."""

    folder: EvidenceFolder
    verdicts: Verdicts
    loaded: dict[str, LoadedTopology] = field(default_factory=dict)

    def decide(self, stored: written.Claim) -> Rejudged:
        """Decide one claim by its runs."""
        scenario = stored.scenario or self.verdicts.scenario
        own = topology_path(None if scenario == self.verdicts.scenario else scenario)
        loaded = self._topology(own)
        claim: Claim | None = loaded.topology.claims.get(stored.name or stored.id)
        if claim is None:
            raise UsageError(
                f"{own} has no claim {stored.name or stored.id}, but the evidence has a verdict on it"
            )
        results: dict[RunKey, RunResult] = {
            (stored.id, kind, number): self._run(stored.id, kind, number, experiment)
            for kind in KINDS
            for number, (_, experiment) in enumerate(claim.experiments(kind), 1)
        }
        name = stored.name or stored.id
        prefix = stored.id.removesuffix(name)
        (result,) = claim_results([Scenario(loaded, {name: claim}, prefix)], results)
        return Rejudged(stored, result.record())

    def _run(self, claim: str, kind: Kind, number: int, experiment: Experiment) -> RunResult:
        folder = self.folder.run(claim, run_name(kind, number))
        path = run_path(claim, kind, number)
        record = folder.record
        if record is None:
            return RunResult(error=f"{path}run.json is missing")
        loaded = self._topology(record.topology)
        return judge_run(
            experiment, Recording(folder, record, record.recorded or path, loaded, host_addresses(loaded))
        )

    def _topology(self, path: str) -> LoadedTopology:
        if path not in self.loaded:
            file = self.folder.file(path)
            if not file.is_file():
                hint = "the evidence is incomplete: copy it again, or verify the claims again"
                raise UsageError(f"{self.folder.folder} has no {path}", hint=hint)
            self.loaded[path] = load_topology(str(file), templates=self.folder.folder, stored=True)
        return self.loaded[path]
