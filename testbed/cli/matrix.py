"""`testbed matrix`: the claims of all scenarios, and the grid of what works, what does not and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.app import CLAIMS, command
from testbed.cli.complete import complete_any_stack, complete_claim_anywhere, complete_topology
from testbed.cli.experiments import (
    Baseline,
    EvidenceTarget,
    FailFast,
    Jobs,
    JUnitFile,
    Keys,
    Retries,
    ShardOption,
    earlier_verdicts,
    emit_troubles,
    end_by_verdicts,
    laboratory,
    of_shard,
    say_where,
    write_junit,
)
from testbed.cli.options import Engines, one_of
from testbed.cli.output import CiFormat, emit, emit_json, emit_rows, emit_text
from testbed.errors import Source

if TYPE_CHECKING:
    from testbed.evidence.verdicts import Verdicts
    from testbed.experiment.claims.plan import Scenario
    from testbed.report.grid import Row


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
    claim: Annotated[
        list[str] | None,
        typer.Option(
            "--claim",
            metavar="ID",
            help="Only this claim, or those that a pattern meets (*-fa-*); may be given several times.",
            autocompletion=complete_claim_anywhere,
        ),
    ] = None,
    retries: Retries = 0,
    fail_fast: FailFast = False,
    shard: ShardOption = None,
    baseline: Baseline = None,
    jobs: Jobs = 4,
    engines: Engines = None,
    evidence: EvidenceTarget = None,
    keys: Keys = False,
    junit: JUnitFile = None,
    output: Annotated[
        CiFormat,
        one_of(
            CiFormat,
            "--output",
            "-o",
            help="A table for people, JSON for programs, Markdown for GitHub with annotations on stderr.",
        ),
    ] = CiFormat.table,
) -> None:
    """Decide the claims of all scenarios, and show what each configuration comes to.

    Labs that several scenarios need are brought up once. Exit code 1 unless all claims are reproduced; with
    --baseline only where one was better before.
    """
    from testbed.experiment.claims.plan import choose_scenarios, plan_stages, share_labs
    from testbed.report.grid import grid

    before = earlier_verdicts(baseline)
    chosen = of_shard(choose_scenarios(scenario or (), stack or (), claim or ()), shard)
    labs = share_labs(plan_stages(chosen), jobs)
    with laboratory(evidence, junit, keys=keys, engines=engines or ()) as at:
        work = at.verification(jobs=jobs, retries=retries, fail_fast=fail_fast)
        verdicts = work.verify_all(chosen, labs)
    rows = grid(verdicts, {one.loaded.name: one.loaded.topology for one in chosen})
    match output:
        case CiFormat.json:
            emit_json(verdicts.document)
        case CiFormat.github:
            _github(verdicts, rows, chosen, before)
        case _:
            _table(verdicts, rows)
    say_where(evidence)
    write_junit(verdicts, junit)
    end_by_verdicts(verdicts, before)


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
    emit_troubles(verdicts.claims)


def _github(
    verdicts: Verdicts, rows: Sequence[Row], scenarios: Sequence[Scenario], baseline: Verdicts | None
) -> None:
    from testbed.report.baseline import worse_verdicts
    from testbed.report.github import commands, summary

    emit_text(summary(verdicts, rows))
    # The runner reads both streams; like this the summary is a plain `>> "$GITHUB_STEP_SUMMARY"`.
    sources = {name: _here(one.loaded.source("claims", name)) for one in scenarios for name in one.claims}
    worse = None if baseline is None else [one.what for one in worse_verdicts(verdicts, baseline)]
    for line in commands(verdicts, sources, worse):
        print(line, file=sys.stderr, flush=True)


def _here(source: Source) -> Source:
    """A place as seen from the folder one is in, which in a workflow is the repository's."""
    path = Path(source.file)
    inside = path.is_absolute() and path.is_relative_to(Path.cwd())
    return Source(str(path.relative_to(Path.cwd())), source.line, source.column) if inside else source
