"""`testbed solutions`: solutions judged by the guidelines of section 5."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.app import CLAIMS, command
from testbed.cli.complete import complete_guideline, complete_solution
from testbed.cli.experiments import EvidenceTarget, Jobs, JUnitFile, Keys, laboratory, say_where, write_junit
from testbed.cli.options import Engines, Templates, one_of
from testbed.cli.output import CiFormat, emit, emit_json, emit_rows, emit_text
from testbed.errors import ExitCode

if TYPE_CHECKING:
    from testbed.report.solutions import Row


WHY = 300
"""Characters of a reason that the table has; JSON and the report have the rest."""


@command("solutions", panel=CLAIMS)
def solutions(
    name: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FILE",
            help="Solutions: built-in ones, or topology files that include shared/guidelines.yaml. "
            "(default: every built-in solution)",
            autocompletion=complete_solution,
        ),
    ] = None,
    guideline: Annotated[
        list[str] | None,
        typer.Option(
            "--guideline",
            metavar="NUMBER",
            help="Only this guideline, such as 5.6; may be given several times.",
            autocompletion=complete_guideline,
        ),
    ] = None,
    jobs: Jobs = 3,
    engines: Engines = None,
    evidence: EvidenceTarget = None,
    keys: Keys = False,
    junit: JUnitFile = None,
    templates: Templates = None,
    output: Annotated[
        CiFormat,
        one_of(
            CiFormat, "--output", "-o", help="A table for people, JSON for programs, Markdown for GitHub."
        ),
    ] = CiFormat.table,
) -> None:
    """Judge solutions by the guidelines of section 5: a grid with a row for each solution.

    What solutions are compared with is judged beside them. Exit code 1 where a cell is undecided (?), as it
    is where a control does not come out; that a guideline is not followed (✗), or cannot be tried (–), is
    a result like any other.
    """
    from testbed.evidence.carriers import sentence
    from testbed.experiment.claims.plan import plan_stages, share_labs
    from testbed.experiment.claims.solutions import choose_solutions
    from testbed.report.solutions import markdown, rows

    chosen = choose_solutions(name or (), guideline or (), templates)
    labs = share_labs(plan_stages(chosen, templates, share=True), jobs)
    with laboratory(evidence, junit, keys=keys, engines=engines or ()) as at:
        verdicts = at.verification(templates=templates, jobs=jobs).verify_all(chosen, labs)
    made = rows(verdicts, {one.loaded.name: one.loaded.topology for one in chosen}, guideline or ())
    match output:
        case CiFormat.json:
            emit_json({"solutions": [row.to_json() for row in made], **verdicts.document})
        case CiFormat.github:
            emit_text(markdown(made))
        case _:
            _table(made)
            if carried := sentence(lab.carriers for lab in verdicts.backends.values()):
                emit(f"\n{carried}")
    say_where(evidence)
    write_junit(verdicts, junit)
    if any(cell.state == "undecided" for row in made for cell in row.cells):
        raise typer.Exit(ExitCode.FAILED)


def _table(made: Sequence[Row]) -> None:
    from testbed.report.solutions import SIGNS, lines

    numbers = [cell.guideline for cell in made[0].cells] if made else []
    emit_rows(("SOLUTION", *numbers, "MUST"), lines(made), keep=("SOLUTION", *numbers))
    emit()
    emit(" · ".join(f"{sign} {state}" for state, sign in SIGNS.items()))
    emit()
    decided = [
        (
            row.name if number == 0 else "",
            f"{cell.sign} {cell.guideline}",
            cell.about.level,
            shorten(cell.why, WHY),
            claims,
        )
        for row in made
        for number, cell in enumerate(row.listed)
        for claims in [", ".join(one.removeprefix(f"{row.name}.") for one in cell.claims)]
    ]
    emit_rows(("SOLUTION", "RESULT", "LEVEL", "WHY", "CLAIMS"), decided, keep=("SOLUTION", "RESULT", "LEVEL"))
