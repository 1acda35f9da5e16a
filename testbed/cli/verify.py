"""`testbed verify`: decide a topology's claims from packets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.app import CLAIMS, command
from testbed.cli.complete import complete_claim
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
    verdict_word,
    write_junit,
)
from testbed.cli.labs import complete_lab
from testbed.cli.options import Engines, Output, Sets, Templates, TopologyRef, load_typed
from testbed.cli.output import Format, emit_json, emit_rows, note

if TYPE_CHECKING:
    from testbed.evidence.verdicts import Verdicts


@command("verify", panel=CLAIMS)
def verify(
    topology: TopologyRef,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            "--claim",
            metavar="ID",
            help="Only this claim, or those that a pattern meets (2.1-fa-*); may be given several times.",
            autocompletion=complete_claim,
        ),
    ] = None,
    sets: Sets = None,
    templates: Templates = None,
    engines: Engines = None,
    evidence: EvidenceTarget = None,
    keys: Keys = False,
    junit: JUnitFile = None,
    lab: Annotated[
        str | None,
        typer.Option(
            "--lab",
            metavar="LAB",
            help="Use this running lab for the runs it fits; it stays up.",
            autocompletion=complete_lab,
        ),
    ] = None,
    jobs: Jobs = 2,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the labs up.")] = False,
    retries: Retries = 0,
    fail_fast: FailFast = False,
    shard: ShardOption = None,
    baseline: Baseline = None,
    output: Output = Format.table,
) -> None:
    """Bring up the labs that the claims of a topology need, try each claim and its control, and decide.

    A claim is `reproduced`, `refuted`, or `inconclusive` when the run could not decide or its control did
    not come out. Exit code 1 unless all claims asked for are reproduced; with --baseline only where one was
    better before.
    """
    from testbed.experiment.claims.plan import choose_claims, plan_labs, plan_stages

    before = earlier_verdicts(baseline)
    chosen = of_shard([choose_claims(load_typed(topology, sets, templates), claim or ())], shard)[0]
    labs = plan_labs(plan_stages([chosen], templates), jobs, keep=keep)
    with laboratory(evidence, junit, keys=keys, engines=engines or (), lab=lab) as at:
        work = at.verification(
            templates=templates, jobs=jobs, keep=keep, retries=retries, fail_fast=fail_fast, existing=lab
        )
        verdicts = work.verify(chosen, labs)
    if output is Format.json:
        emit_json(verdicts.document)
    else:
        _print(verdicts)
    if keep:
        note(f"left up: {', '.join(verdicts.backends)}")
    say_where(evidence)
    write_junit(verdicts, junit)
    end_by_verdicts(verdicts, before)


def _print(verdicts: Verdicts) -> None:
    emit_rows(
        ("CLAIM", "VERDICT", "SOURCE", "SAYS"),
        [(one.id, verdict_word(one), one.source, one.says) for one in verdicts.claims],
    )
    emit_troubles(verdicts.claims)
