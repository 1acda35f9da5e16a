"""`testbed judge`: the claims of an evidence folder, decided again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.cli.app import CLAIMS, command
from testbed.cli.options import EvidenceSource, Output, reading
from testbed.cli.output import Format, emit, emit_json, emit_rows
from testbed.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.evidence.verdicts import Finding
    from testbed.experiment.claims.rejudge import Rejudged


@command("judge", panel=CLAIMS)
def judge(
    evidence: EvidenceSource,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            "--claim",
            metavar="ID",
            help="Only this claim, or those that a pattern meets (2.1-fa-*); may be given several times.",
        ),
    ] = None,
    output: Output = Format.table,
) -> None:
    """Decide claims again from the evidence of `verify`, `matrix` or `solutions`; no engine is needed.

    Prints each verdict, and what differs from the verdict that the evidence stores. Exit code 1 unless every
    claim is reproduced and no verdict differs.
    """
    from testbed.evidence.folder import EvidenceFolder
    from testbed.experiment.claims.rejudge import judge_evidence

    with reading(evidence) as folder:
        judged = judge_evidence(EvidenceFolder(folder), claim or ())
    if output is Format.json:
        emit_json({"claims": [_json(one) for one in judged]})
    else:
        _print(judged)
    if any(not one.same or one.now.verdict != "reproduced" for one in judged):
        raise typer.Exit(ExitCode.FAILED)


def _print(judged: Sequence[Rejudged]) -> None:
    emit_rows(
        ("CLAIM", "VERDICT", "STORED", "SOURCE", "SAYS"),
        [(one.now.id, one.now.verdict, one.stored.verdict, one.now.source, one.now.says) for one in judged],
    )
    for one in judged:
        if one.now.reason:
            emit(f"\n{one.now.id} is {one.now.verdict}: {one.now.reason}")
        for difference in one.differences:
            emit(f"\n{one.now.id}, {difference.run}: {difference.expectation}")
            emit(f"  stored: {_seen(difference.stored)}")
            emit(f"  judged: {_seen(difference.now)}")
    good = sum(one.now.verdict == "reproduced" for one in judged)
    same = sum(one.same for one in judged)
    emit(f"\n{good} of {len(judged)} reproduced; {same} of {len(judged)} as stored")


def _seen(finding: Finding | None) -> str:
    if finding is None:
        return "no finding"
    held = {True: "holds", False: "does not hold", None: "undecided"}[finding.held]
    excuse = f" ({finding.excuse})" if finding.excuse else ""
    return f"{held}: {finding.observed}{excuse}"


def _json(one: Rejudged) -> dict[str, Any]:
    return {
        "id": one.now.id,
        "verdict": one.now.verdict,
        "stored": one.stored.verdict,
        "reason": one.now.reason,
        "differences": [
            {
                "run": difference.run,
                "expectation": difference.expectation,
                "stored": difference.stored.model_dump(mode="json") if difference.stored else None,
                "judged": difference.now.model_dump(mode="json") if difference.now else None,
            }
            for difference in one.differences
        ],
    }
