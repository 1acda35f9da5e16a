"""`testbed explain`: one claim as a story."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.cli.app import CLAIMS, command
from testbed.cli.complete import complete_claim_anywhere, complete_evidence, complete_topology
from testbed.cli.options import Output, Templates, reading
from testbed.cli.output import Format, console, emit_json, emit_text
from testbed.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from testbed.report.evidence import Evidence
    from testbed.topology.loaded import LoadedTopology


@command("explain", panel=CLAIMS)
def explain(
    claim: Annotated[
        str,
        typer.Argument(metavar="CLAIM", help="The claim's ID.", autocompletion=complete_claim_anywhere),
    ],
    topology: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|FILE",
            help="The topology that makes the claim. (default: the built-in one that does)",
            autocompletion=complete_topology,
        ),
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            "--evidence",
            metavar="EVIDENCE",
            help="What was seen in this evidence of `verify` or `matrix`: a folder, a .zip or a .tar.zst.",
            autocompletion=complete_evidence,
        ),
    ] = None,
    templates: Templates = None,
    output: Output = Format.table,
) -> None:
    """Explain one claim: what it says, how it is tried, what must be seen, and why that decides it."""
    from testbed.experiment.claims.plan import choose_claims, plan_stages
    from testbed.report.evidence import read_evidence
    from testbed.report.explain import explain as explained
    from testbed.report.story import story

    def tell(read: Evidence | None, roles: Path | None) -> dict[str, Any]:
        loaded = _makes(claim, topology, roles)
        labs = {
            (run.kind, run.number): stage.topology
            for stage in plan_stages([choose_claims(loaded, [claim])], roles)
            for run in stage.runs
        }
        return explained(loaded, claim, labs, read)

    if evidence is None:
        told = tell(None, templates)
    else:
        with reading(evidence) as folder:
            told = tell(read_evidence(folder), templates or folder) | {"evidence": str(evidence)}
    if output is Format.json:
        emit_json(told)
    else:
        emit_text(story(told, min(console().width, 100)).rstrip("\n"))


def _makes(claim: str, topology: str | None, templates: Path | None) -> LoadedTopology:
    """The topology that makes a claim. Raises `UsageError` where none does."""
    from testbed.topology.load import builtin_claims, load_topology

    if topology is not None:
        return load_topology(topology, templates=templates)
    known = builtin_claims()
    if claim not in known:
        hint = did_you_mean(claim, known)
        raise UsageError(f"no built-in topology makes the claim {claim}", hint=hint)
    return load_topology(known[claim])
