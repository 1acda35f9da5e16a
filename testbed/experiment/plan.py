"""Which labs a verification needs, and which runs take place in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.errors import Source, TestbedError, TopologyError, UsageError, did_you_mean, raise_errors
from testbed.experiment.verdict import Kind
from testbed.topology.claims import Claim, Experiment, check_names
from testbed.topology.document import dotted
from testbed.topology.load import SUFFIXES, load_topology
from testbed.topology.loaded import LoadedTopology


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of one claim."""

    claim: str
    kind: Kind
    experiment: Experiment


@dataclass(slots=True)
class PlannedLab:
    """A lab and the runs that share it, in the order of the file."""

    topology: LoadedTopology
    own: bool  # of the topology that the claims stand in
    runs: list[PlannedRun] = field(default_factory=list)


def choose_claims(loaded: LoadedTopology, wanted: Sequence[str]) -> dict[str, Claim]:
    """The claims asked for, all of them by default, in the order of the file. Raises `UsageError`."""
    claims = loaded.topology.claims
    if not claims:
        raise UsageError(f"{loaded.name} makes no claims", hint="testbed vocabulary says how to write one")
    for one in wanted:
        if one not in claims:
            raise UsageError(f"{loaded.name} has no claim {one}", hint=did_you_mean(one, claims))
    return {name: claim for name, claim in claims.items() if not wanted or name in wanted}


def plan_labs(
    loaded: LoadedTopology, claims: dict[str, Claim], templates: Path | None = None
) -> list[PlannedLab]:
    """Sort the runs of claims by the lab they need; the lab with most runs comes first.

    Changes that the user asked for (`--set`) hold for the claims' own topology; what a run asks for comes
    after them. Raises every error at once, each at its place in the claims' file.
    """
    labs: dict[tuple[str, tuple[str, ...]], PlannedLab] = {}
    errors: list[TestbedError] = []
    for name, claim in claims.items():
        runs: list[tuple[Kind, Experiment]] = [("run", claim.run), ("control", claim.control)]
        for kind, experiment in runs:
            ref = _reference(loaded, experiment.topology, loaded.source("claims", name, kind, "topology"))
            own = experiment.topology is None
            sets = (*(loaded.sets if own else ()), *_sets(experiment))
            if (ref, sets) not in labs:
                try:
                    other = load_topology(ref, sets=sets, templates=templates)
                except TestbedError as error:
                    errors.append(error)
                    continue
                labs[ref, sets] = PlannedLab(other, own)
            lab = labs[ref, sets]
            if not own:
                errors += _names(loaded, lab.topology, name, kind, experiment)
            lab.runs.append(PlannedRun(name, kind, experiment))
    raise_errors(errors)
    return sorted(labs.values(), key=lambda lab: -len(lab.runs))


def _reference(loaded: LoadedTopology, topology: str | None, written: Source) -> str:
    """A built-in topology by name; a file relative to the one that names it, at `written`."""
    if topology is None:
        return loaded.file
    if "/" in topology or topology.endswith(SUFFIXES):
        return str(Path(written.file).parent / topology)
    return topology


def _sets(experiment: Experiment) -> tuple[str, ...]:
    options = [f"option.{name}={_scalar(value)}" for name, value in experiment.options.items()]
    return (*options, *experiment.sets)


def _scalar(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _names(
    loaded: LoadedTopology, other: LoadedTopology, claim: str, kind: Kind, run: Experiment
) -> list[TopologyError]:
    errors: list[TopologyError] = []

    def fail(path: tuple[str | int, ...], message: str, hint: str | None = None) -> None:
        text = f"{dotted(path)}: {message} ({other.name})"
        errors.append(TopologyError(text, hint=hint, source=loaded.source(*path)))

    check_names(run, ("claims", claim, kind), other.topology, fail)
    return errors
