"""A claim in words, as plain data: what is done and what must be seen, in its run and in its control."""

from __future__ import annotations

from typing import Any

from testbed.claim.claims import Claim, Experiment
from testbed.evidence.verdicts import KINDS


def outline(claim: Claim) -> dict[str, Any]:
    """Under `run` and `control` the list of their experiments, each with its steps and expectations."""
    return {kind: [experiment_outline(one) for _, one in claim.experiments(kind)] for kind in KINDS}


def experiment_outline(experiment: Experiment) -> dict[str, Any]:
    """One experiment: the lab that it needs, its steps, and what must be seen at its end."""
    return {
        "topology": experiment.topology,
        "options": dict(experiment.options),
        "sets": list(experiment.sets),
        "steps": [step.phrase() for step in experiment.steps],
        "expect": [one.phrase() for one in experiment.expect],
    }
