"""`testbed matrix`: the claims of all scenarios, and the grid of what works, what does not and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.app import CLAIMS, command
from testbed.cli.complete import complete_any_stack, complete_topology
from testbed.cli.experiments import EvidenceTarget, JUnitFile, Keys, laboratory, say_where, write_junit
from testbed.cli.options import one_of
from testbed.cli.output import emit, emit_json, emit_rows, emit_text
from testbed.errors import ExitCode, Source

if TYPE_CHECKING:
    from testbed.evidence.verdicts import Verdicts
    from testbed.experiment.claims.plan import Scenario
    from testbed.report.grid import Row


class MatrixFormat(StrEnum):
    """How the grid is printed."""

    table = "table"
    json = "json"
    github = "github"


@command("matrix", panel=CLAIMS)
def matrix(
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            "--scenario",
            metavar="NAME|FILE",
            help="Only this topology; may be given several times. (default: every built-in scenario)",
            autocompletion=complete_topology,
        ),
    ] = None,
    stack: Annotated[
        list[str] | None,
        typer.Option(
            "--stack",
            metavar="STACK",
            help="Only claims on this stack; may be given several times.",
            autocompletion=complete_any_stack,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=16, help="Labs up at the same time.")] = 3,
    evidence: EvidenceTarget = None,
    keys: Keys = False,
    junit: JUnitFile = None,
    output: Annotated[
        MatrixFormat,
        one_of(
            MatrixFormat,
            "--output",
            "-o",
            help="A table for people, JSON for programs, Markdown for GitHub with annotations on stderr.",
        ),
    ] = MatrixFormat.table,
) -> None:
    """Decide the claims of all scenarios, and show what each configuration comes to.

    Labs that several scenarios need are brought up once. Exit code 1 unless all claims are reproduced.
    """
    from testbed.experiment.claims.plan import choose_scenarios, plan_stages, share_labs
    from testbed.experiment.claims.verify import Verification
    from testbed.report.grid import grid

    chosen = choose_scenarios(scenario or (), stack or ())
    labs = share_labs(plan_stages(chosen), jobs)
    with laboratory(evidence, junit, keys=keys) as at:
        verdicts = Verification(
            engine=at.engine,
            image=at.image,
            pool=at.pool,
            evidence=at.evidence,
            jobs=jobs,
            progress=at.progress,
        ).verify_all(chosen, labs)
    rows = grid(verdicts, {one.loaded.name: one.loaded.topology for one in chosen})
    match output:
        case MatrixFormat.json:
            emit_json(verdicts.document)
        case MatrixFormat.github:
            _github(verdicts, rows, chosen)
        case _:
            _table(verdicts, rows)
    say_where(evidence)
    write_junit(verdicts, junit)
    if any(one.verdict != "reproduced" for one in verdicts.claims):
        raise typer.Exit(ExitCode.FAILED)


def _table(verdicts: Verdicts, rows: Sequence[Row]) -> None:
    from testbed.report.grid import SIGNS

    lines = []
    for row in rows:
        head = (row.scenario, row.stack or "–", row.attachment or "any")
        if not row.entries:
            lines.append((*head, "no claim", ""))
        for number, one in enumerate(row.entries):
            lines.append((*(head if number == 0 else ("", "", "")), one.text, ", ".join(one.claims)))
    keep = ("SCENARIO", "STACK", "ATTACHMENT", "RESULT")
    emit_rows((*keep, "CLAIMS"), lines, keep=keep)
    emit()
    emit(" · ".join(f"{sign} {state}" for state, sign in SIGNS.items()))
    for claim in verdicts.claims:
        if claim.verdict != "reproduced":
            emit(f"\n{claim.id} is {claim.verdict}: {claim.reason}")
    good = sum(claim.verdict == "reproduced" for claim in verdicts.claims)
    emit(f"\n{good} of {len(verdicts.claims)} reproduced")


def _github(verdicts: Verdicts, rows: Sequence[Row], scenarios: Sequence[Scenario]) -> None:
    from testbed.report.github import commands, summary

    emit_text(summary(verdicts, rows))
    # The runner reads both streams; like this the summary is a plain `>> "$GITHUB_STEP_SUMMARY"`.
    sources = {name: _here(one.loaded.source("claims", name)) for one in scenarios for name in one.claims}
    for line in commands(verdicts, sources):
        print(line, file=sys.stderr, flush=True)


def _here(source: Source) -> Source:
    """A place as seen from the folder one is in, which in a workflow is the repository's."""
    path = Path(source.file)
    inside = path.is_absolute() and path.is_relative_to(Path.cwd())
    return Source(str(path.relative_to(Path.cwd())), source.line, source.column) if inside else source
