"""Sabotage: what contradicts the document comes out as refuted, and what decides nothing as inconclusive.

Each sabotage changes the topology the way a user would, with `--set` or in a copy of the files, and leaves
the claims and their controls as they are (where a claim's own run asks for what is sabotaged, the run).
"""

import pytest
from sabotages import SABOTAGES

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("what", SABOTAGES)
def test_the_verdict(verified, what):
    """A busy machine may have spoiled what would refute: then nothing is decided, and the finding says so."""
    sabotage, found = SABOTAGES[what], verified.sabotages[what]
    assert set(found) == set(sabotage.claims)
    for claim in found.values():
        if sabotage.verdict == "refuted":
            busy = any(one.excuse for one in claim.evidence) or too_slow(claim.run)
            assert claim.run.verdict == "failed" or busy, findings(claim)
        else:
            assert claim.verdict == sabotage.verdict, findings(claim)


def test_a_broken_control_is_the_reason(verified):
    (claim,) = verified.sabotages["a broken control is never success"].values()
    assert claim.reason.startswith("the control failed")


def too_slow(run):
    """Whether a step could not be carried out, on a machine that may be why."""
    return run.error and run.health and run.health.late_ms >= 100


def findings(claim):
    """What was seen in the place of what was expected, and why a run could not be carried out."""
    seen = [f"{one.held}: {one.expectation}: {one.observed}" for one in claim.evidence]
    return "\n".join([f"{claim.id}: {claim.run.verdict}: {claim.run.error}", *seen])
