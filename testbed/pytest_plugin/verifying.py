"""One claim decided in labs that are lent for it, with an evidence folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from testbed.evidence import folder as names
from testbed.evidence.verdicts import Claim, LabFacts
from testbed.experiment.claims.plan import choose_claims, plan_stages
from testbed.experiment.claims.run import carry_out
from testbed.experiment.claims.verdict import RunKey, RunResult, claim_results, verdicts_of
from testbed.experiment.evidence import Evidence
from testbed.experiment.pulse import Pulse
from testbed.experiment.versions import versions
from testbed.lab.access import LabAccess
from testbed.topology.loaded import LoadedTopology

Lend = Callable[[LoadedTopology], AbstractContextManager[LabAccess]]
"""Lends a lab that is what a topology says. Raises `TestbedError` where it does not come up."""


def verify_claim(topology: LoadedTopology, claim: str, lend: Lend, folder: Path) -> Claim:
    """Carry out the runs of a claim and its control, and decide; the evidence is written to `folder`.

    `testbed explain`, `judge` and `report` read it. Raises `UsageError` where the topology does not make the
    claim or the folder holds something else, `TestbedError` where a lab does not come up.
    """
    scenario = choose_claims(topology, [claim])
    stages = plan_stages([scenario], topology.templates)
    evidence = Evidence(folder)
    evidence.begin_verdicts()
    evidence.keep_roles(topology)
    evidence.write_topology(topology.text())
    results: dict[RunKey, RunResult] = {}
    labs: dict[str, LabFacts] = {}
    for number, stage in enumerate(stages, 1):
        with lend(stage.topology) as access:
            label = f"{access.name}.{number}"  # one lab may have been lent for several stages
            pulse = Pulse(access)
            for planned in stage.runs:
                carried_out = carry_out(access, label, pulse, planned, evidence)
                for one, result in zip(planned.all, carried_out, strict=True):
                    results[one.claim, one.kind, one.number] = result
            written = versions(access.engine)
        about = {
            "topology": stage.topology.name,
            "sets": " ".join(stage.topology.sets),
            "file": evidence.keep_topology(stage.topology),
        }
        labs[label] = LabFacts.model_validate(about)
    document = verdicts_of(topology.name, labs, list(claim_results([scenario], results)))
    evidence.write_verdicts(document)
    evidence.write(names.VERSIONS, written)
    return document.claims[0]
