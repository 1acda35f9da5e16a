"""`testbed compare`: two pieces of evidence side by side."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.app import CLAIMS, command
from testbed.cli.options import Output, evidence_argument, reading
from testbed.cli.output import Format, emit, emit_json, emit_rows
from testbed.errors import ExitCode

if TYPE_CHECKING:
    from testbed.report.compare import ClaimPair, Comparison

_HELD = {True: "held", False: "did not hold", None: "undecided"}


@command("compare", panel=CLAIMS)
def compare(
    first: Annotated[Path, evidence_argument("FIRST")],
    second: Annotated[Path, evidence_argument("SECOND")],
    output: Output = Format.table,
) -> None:
    """Show the verdicts, findings and hand-off figures of two experiments side by side.

    Exit code 1 if the verdict of a claim differs. A claim that only one of them has is shown, and does not
    count as a difference.
    """
    from testbed.evidence.folder import EvidenceFolder
    from testbed.report.compare import compare

    with ExitStack() as stack:
        both = [EvidenceFolder(stack.enter_context(reading(one))) for one in (first, second)]
        for one in both:
            one.check()
        found = compare(both[0], both[1])
    if output is Format.json:
        emit_json({"evidence": [str(first), str(second)], **found.to_json()})
    else:
        _print(found)
    if found.differs:
        raise typer.Exit(ExitCode.FAILED)


def _print(found: Comparison) -> None:
    if found.claims:
        rows = [
            (one.id, *(verdict or "–" for verdict in one.verdicts), _findings(one)) for one in found.claims
        ]
        emit_rows(("CLAIM", "FIRST", "SECOND", "FINDINGS"), rows)
        for claim in found.claims:
            _details(claim)
        differing = sum(claim.differs for claim in found.claims)
        common = sum(claim.only is None for claim in found.claims)
        emit(f"\n{differing} of {common} verdicts differ")
        for number, word in enumerate(("first", "second")):
            if alone := sum(claim.only == number for claim in found.claims):
                emit(f"only in the {word}: {alone} claim{'s' * (alone != 1)}")
    if found.lines or found.medians:
        emit()
        _handoffs(found)


def _findings(claim: ClaimPair) -> str:
    """How many findings there are, and how they differ."""
    if claim.only is not None:
        return "–"
    decided = sum(not one.decided_alike for one in claim.findings)
    observed = sum(one.decided_alike and not one.observed_alike for one in claim.findings)
    parts = [f"{decided} decided differently"] * bool(decided)
    parts += [f"{observed} observed differently"] * bool(observed)
    return f"{len(claim.findings)}: {', '.join(parts) or 'all the same'}"


def _details(claim: ClaimPair) -> None:
    """What makes the difference."""
    if claim.only is not None:
        return
    lines = []
    for one in claim.findings:
        if not one.decided_alike:
            lines.append(f"  {one.run}: {one.expectation}")
            for number, word in enumerate(("first", "second")):
                there = one.only in (None, number)
                seen = f"{_HELD[one.held[number]]}: {one.observed[number]}" if there else "not looked for"
                lines.append(f"    {word}: {seen}")
    if claim.differs and not lines:
        words = zip(("first", "second"), claim.verdicts, claim.reasons, strict=True)
        lines = [f"  {word}: {verdict}: {reason}" for word, verdict, reason in words if reason]
    if lines:
        emit(f"\n{claim.id}:")
        for line in lines:
            emit(line)


def _handoffs(found: Comparison) -> None:
    rows = [
        (
            one.stack,
            one.topology or "–",
            one.between.replace(",", " ↔ "),
            f"{one.rtt_ms:g}",
            *_pair(one.median_ms),
        )
        for one in found.medians
    ]
    head = ("STACK", "TOPOLOGY", "BETWEEN", "RTT", "FIRST", "SECOND", "CHANGE")
    emit_rows(head, rows, title="Median outage (ms)")
    if found.lines:
        emit()
        rows = [(one.stack, *_pair(one.k, 2), *_pair(one.constant_ms)) for one in found.lines]
        parts = [f"{part} {word}" for part in ("K", "CONSTANT") for word in ("FIRST", "SECOND", "CHANGE")]
        emit_rows(("STACK", *parts), rows, title="outage = k × RTT + constant (ms)")


def _pair(pair: tuple[float | None, float | None], digits: int = 0) -> tuple[str, str, str]:
    """Both numbers, and by how much the second is more."""
    first, second = pair
    change = None if first is None or second is None else second - first
    shown = [f"{one:.{digits}f}" if one is not None else "–" for one in pair]
    return shown[0], shown[1], "–" if change is None else f"{change:+.{digits}f}"
