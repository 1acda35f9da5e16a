"""What is worse than in earlier evidence, and what `--baseline` makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.evidence.handoff import HandOffs
from testbed.evidence.verdicts import Verdicts
from testbed.report.baseline import worse_handoffs, worse_verdicts


def verdicts(**claims: str) -> Verdicts:
    return Verdicts.model_validate({"claims": [{"id": k, "verdict": v} for k, v in claims.items()]})


@pytest.mark.parametrize(
    ("was", "now", "worse"),
    [
        ("reproduced", "reproduced", False),
        ("reproduced", "inconclusive", True),
        ("reproduced", "refuted", True),
        ("inconclusive", "inconclusive", False),
        ("inconclusive", "refuted", True),
        ("refuted", "refuted", False),
        ("refuted", "reproduced", False),
    ],
)
def test_a_verdict(was: str, now: str, worse: bool) -> None:
    assert bool(worse_verdicts(verdicts(a=now), verdicts(a=was))) is worse


def test_a_claim_that_the_baseline_lacks_must_be_reproduced() -> None:
    (one,) = worse_verdicts(verdicts(a="reproduced", b="inconclusive"), verdicts(c="refuted"))
    assert str(one) == "b is inconclusive; in the baseline it is missing"


def handoffs(reaction: float, outages: list[float | None]) -> HandOffs:
    moves: list[dict[str, Any]] = [{"outage_ms": one, "lost": 0, "sent": 10} for one in outages]
    run = {"stack": "mip-only", "between": ["hotel", "airport"], "rtt_ms": 40, "reaction_ms": reaction}
    return HandOffs.model_validate({"scenario": "s", "runs": [{**run, "budget_ms": 30, "moves": moves}]})


def test_hand_offs() -> None:
    good, slow, lost = handoffs(20, [100.0]), handoffs(31, [100.0]), handoffs(20, [100.0, None])
    assert not worse_handoffs(good, slow) and not worse_handoffs(slow, slow)
    (one,) = worse_handoffs(slow, good)
    assert str(one) == (
        "mip-only between hotel and airport, RTT 40 ms, is over its budget (31 of 30 ms); "
        "in the baseline it is not so"
    )
    (one,) = worse_handoffs(lost, good)
    assert one.now == "without traffic after 1 of 2 moves"
    other = HandOffs(scenario="other", runs=good.runs)
    assert worse_handoffs(slow, other)[0].was == "missing"
