"""`testbed explain`: one claim as a story."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.cli.app import CLAIMS, command
from testbed.cli.complete import complete_claim_anywhere, complete_evidence, complete_topology
from testbed.cli.labs import complete_lab, engine_connection
from testbed.cli.options import Output, Templates, reading
from testbed.cli.output import Format, as_called, console, emit, emit_json, emit_text
from testbed.errors import ExitCode, UsageError, did_you_mean

if TYPE_CHECKING:
    from testbed.report.evidence import Evidence
    from testbed.report.explain import Labs
    from testbed.topology.loaded import LoadedTopology


@command("explain", panel=CLAIMS)
def explain(
    claim: Annotated[
        str,
        typer.Argument(
            metavar="CLAIM",
            help="The claim's ID; in evidence of `solutions` SOLUTION.ID.",
            autocompletion=complete_claim_anywhere,
        ),
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
            help="What was seen in this evidence of `verify`, `matrix` or `solutions`: a folder, a .zip or a "
            ".tar.zst.",
            autocompletion=complete_evidence,
        ),
    ] = None,
    live: Annotated[
        str | None,
        typer.Option(
            "--live",
            metavar="LAB",
            help="Carry it out in this running lab, a step a key, with what to look at.",
            autocompletion=complete_lab,
        ),
    ] = None,
    templates: Templates = None,
    output: Output = Format.table,
) -> None:
    """Explain one claim: what it says, how it is tried, what must be seen, and why that decides it.

    With --live the exit code is 1 if not all of it was seen.
    """
    from testbed.experiment.claims.plan import choose_claims, plan_stages
    from testbed.report.evidence import read_evidence
    from testbed.report.explain import explain as explained
    from testbed.report.story import story

    def plan(loaded: LoadedTopology, name: str, roles: Path | None) -> Labs:
        return {
            (run.kind, run.number): stage.topology
            for stage in plan_stages([choose_claims(loaded, [name])], roles)
            for run in stage.runs
        }

    if live is not None:
        if evidence is not None or output is Format.json:
            raise UsageError("--live looks at a running lab", hint="leave out --evidence and -o json")
        loaded = _makes(claim, topology, templates)
        labs = plan(loaded, claim, templates)
        if not _walked(live, claim, labs, explained(loaded, claim, labs)):
            raise typer.Exit(ExitCode.FAILED)
        return
    if evidence is None:
        loaded = _makes(claim, topology, templates)
        told = explained(loaded, claim, plan(loaded, claim, templates))
    else:
        with reading(evidence) as folder:
            read, roles = read_evidence(folder), templates or folder
            loaded, name = _of_solution(read, claim, topology, roles) or (
                _makes(claim, topology, roles),
                claim,
            )
            told = explained(loaded, name, plan(loaded, name, roles), read) | {"evidence": str(evidence)}
    if output is Format.json:
        emit_json(told)
    else:
        emit_text(story(told, min(console().width, 100)).rstrip("\n"))


def _walked(lab: str, claim: str, labs: Labs, told: dict[str, Any]) -> bool:
    """Carry out a claim with the person at the terminal. Raises `UsageError` where there is none."""
    from testbed.lesson.guided import Companion, walk

    if not sys.stdin.isatty():
        raise UsageError("--live waits for keys, and needs a terminal")

    def wait(what: str) -> None:
        typer.echo(f"   [any key {what}; Ctrl-C ends] ", nl=False, err=True)
        typer.getchar()
        typer.echo("\r\x1b[K", nl=False, err=True)

    emit_text(f"# {claim}\n{told['says']} ({told['source']})")
    with engine_connection(lab) as engine:
        return walk(engine, lab, claim, labs, told, Companion(lambda text: emit(as_called(text)), wait))


def _of_solution(
    evidence: Evidence, claim: str, topology: str | None, templates: Path
) -> tuple[LoadedTopology, str] | None:
    """The topology and the name of a claim that evidence calls SOLUTION.NAME; None for another claim."""
    from testbed.evidence.folder import topology_path
    from testbed.topology.load import load_topology

    claims = evidence.verdicts.claims if evidence.verdicts else []
    for one in claims:
        if one.id == claim and one.name:
            stored = str(evidence.folder / topology_path(one.scenario))
            return load_topology(topology or stored, templates=templates, stored=topology is None), one.name
    return None


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
