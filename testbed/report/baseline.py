"""What is worse than in earlier evidence, for those who know that not everything is as it should be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from testbed.evidence.handoff import HandOffRun, HandOffs
from testbed.evidence.verdicts import Verdict, Verdicts

_WORTH: dict[Verdict, int] = {"refuted": 0, "inconclusive": 1, "reproduced": 2}


@dataclass(frozen=True, slots=True)
class Worse:
    """Something that was better in the baseline."""

    what: str
    """A claim's name, or the stack and round-trip time of a measurement."""
    was: str
    """What the baseline says; `missing` where it says nothing."""
    now: str

    def __str__(self) -> str:
        return f"{self.what} is {self.now}; in the baseline it is {self.was}"


def worse_verdicts(now: Verdicts, baseline: Verdicts) -> list[Worse]:
    """The claims whose verdict was better, and those that the baseline lacks and that are not reproduced."""
    was = {claim.id: claim.verdict for claim in baseline.claims}
    return [
        Worse(claim.id, was.get(claim.id, "missing"), claim.verdict)
        for claim in now.claims
        if _WORTH[claim.verdict] < _WORTH[was.get(claim.id, "reproduced")]
    ]


def worse_handoffs(now: HandOffs, baseline: HandOffs) -> list[Worse]:
    """The measurements in which the baseline lost no move, or kept its budget, and this one does not."""
    was = {_key(run, baseline): dict(_troubles(run)) for run in baseline.runs}
    found = []
    for run in now.runs:
        before = was.get(_key(run, now), {})
        for trouble, text in _troubles(run):
            if trouble not in before:
                what = f"{run.stack} between {' and '.join(run.between)}, RTT {run.rtt_ms:g} ms,"
                found.append(Worse(what, "not so" if _key(run, now) in was else "missing", text))
    return found


def _key(run: HandOffRun, handoffs: HandOffs) -> tuple[str, str, str, float]:
    return run.stack, run.topology or handoffs.scenario, run.places, run.rtt_ms


def _troubles(run: HandOffRun) -> Iterator[tuple[str, str]]:
    """A word for each trouble, and what it is."""
    lost = len(run.moves) - len(run.outages)
    if lost:
        yield "lost", f"without traffic after {lost} of {len(run.moves)} moves"
    if run.reaction_ms is not None and run.budget_ms is not None and run.reaction_ms > run.budget_ms:
        yield "budget", f"over its budget ({run.reaction_ms:.0f} of {run.budget_ms:.0f} ms)"
