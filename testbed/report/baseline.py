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
    """A claim's name, or the solution or stack, networks and round-trip time of a measurement."""
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
    was = {setting: dict(_troubles(run)) for setting, run in baseline.by_setting.items()}
    found = []
    for setting, run in now.by_setting.items():
        before = was.get(setting, {})
        for trouble, text in _troubles(run):
            if trouble not in before:
                what = f"{run.series} between {' and '.join(run.between)}, RTT {run.rtt_ms:g} ms,"
                found.append(Worse(what, "not so" if setting in was else "missing", text))
    return found


def _troubles(run: HandOffRun) -> Iterator[tuple[str, str]]:
    """A word for each trouble, and what it is."""
    lost = len(run.moves) - len(run.outages)
    if lost:
        yield "lost", f"without traffic after {lost} of {len(run.moves)} moves"
    if run.reaction_ms is not None and run.budget_ms is not None and run.reaction_ms > run.budget_ms:
        yield "budget", f"over its budget ({run.reaction_ms:.0f} of {run.budget_ms:.0f} ms)"
