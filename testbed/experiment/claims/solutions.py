"""Which solutions are judged, and by which of their claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from testbed.claim.claims import Claim
from testbed.errors import UsageError, did_you_mean
from testbed.experiment.claims.plan import Scenario
from testbed.topology.load import SOLUTIONS, builtin_topologies, load_topology
from testbed.topology.loaded import LoadedTopology


def choose_solutions(
    names: Sequence[str] = (), guidelines: Sequence[str] = (), templates: Path | None = None
) -> list[Scenario]:
    """The solutions asked for, all built-in ones by default, with their claims on guidelines.

    `nothing` means `solutions/nothing`, too. A solution that others are compared with comes first, asked for
    or not. Raises `UsageError`, also where a topology has no guidelines, and where two have one name.
    """
    builtin = builtin_topologies()
    every = [name for name in builtin if name.startswith(f"{SOLUTIONS}/")]
    refs = [_reference(name, every) for name in dict.fromkeys(names)] or every
    loaded = [load_topology(ref, templates=templates) for ref in refs]
    for one, ref in zip(loaded, refs, strict=True):
        if not one.topology.guidelines:
            raise UsageError(
                f"{ref} has no guidelines that it is judged by",
                hint="include: [shared/solution.yaml, shared/guidelines.yaml]",
            )
    known = list(dict.fromkeys(number for one in loaded for number in one.topology.guidelines))
    for number in guidelines:
        if number not in known:
            hint = did_you_mean(number, known)
            raise UsageError(f"there is no guideline {number}", hint=hint or f"those are {', '.join(known)}")
    wanted = tuple(guidelines) or tuple(known)
    loaded = _with_compared(loaded, wanted, templates)
    for name, times in Counter(one.name for one in loaded).items():
        if times > 1:
            raise UsageError(f"two of the solutions are called {name}", hint="give each a name of its own")
    return [Scenario(one, _claims(one, wanted), f"{one.name}.") for one in loaded]


def _reference(name: str, every: Sequence[str]) -> str:
    return f"{SOLUTIONS}/{name}" if f"{SOLUTIONS}/{name}" in every else name


def _with_compared(
    loaded: Sequence[LoadedTopology], wanted: Sequence[str], templates: Path | None
) -> list[LoadedTopology]:
    """Those that others are compared with in these guidelines first, and then the rest."""
    beside = {
        about.beside: None
        for one in loaded
        for number, about in one.topology.guidelines.items()
        if number in wanted and about.beside
    }
    named = {one.name: one for one in loaded}
    first = [named.get(name) or load_topology(f"{SOLUTIONS}/{name}", templates=templates) for name in beside]
    return [*first, *(one for one in loaded if one.name not in beside)]


def _claims(loaded: LoadedTopology, wanted: Sequence[str]) -> dict[str, Claim]:
    return {
        name: claim
        for name, claim in loaded.topology.claims.items()
        if set(claim.guideline) & set(wanted) and not (claim.needs and claim.needs.lacking(loaded.nodes))
    }
