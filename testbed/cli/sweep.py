"""`testbed sweep`: studies of many runs, on one machine or on many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.app import CLAIMS, command, group
from testbed.cli.labs import narrated
from testbed.cli.options import Output
from testbed.cli.output import Format, emit, emit_json, emit_rows, note
from testbed.cli.page import NAME, emit_page, page_option
from testbed.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.evidence.study import TaskRecord
    from testbed.sweep.run import Failure

sweep = group("sweep", panel=CLAIMS, help="Studies: many runs, varied by a file, on one machine or many.")

StudyFile = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY", help="The file that says what is varied and what is found out.", dir_okay=False
    ),
]
Results = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="DIR",
        help="The folder of the results. (default: beside the study, its name with .results)",
    ),
]


@command("plan", of=sweep)
def plan(study: StudyFile, results: Results = None, output: Output = Format.table) -> None:
    """Show how many tasks a study has, how many of them are finished, and how long the rest will take.

    The time is that of earlier tasks in the folder of the results that are alike; before there are any, a
    guess.
    """
    from testbed.document.values import duration
    from testbed.sweep.plan import load_plan
    from testbed.sweep.run import remaining
    from testbed.sweep.store import Store

    planned = load_plan(study)
    store = Store(results or _beside(study))
    record = planned.record
    done = {one.task.key for one in store.finished(record)}
    left = [one for one in planned.assignments if one.task.key not in done]
    seconds = remaining(left, store.everything())
    if output is Format.json:
        tasks = [one.model_dump(mode="json") | {"finished": one.key in done} for one in record.tasks]
        emit_json({"study": record.name, "tasks": tasks, "seconds": round(seconds)})
        return
    counted: dict[tuple[str, str, str, str], list[bool]] = {}
    for one in record.tasks:
        options = " ".join(f"{name}={value}" for name, value in one.options.items())
        row = (one.topology, one.stack, one.claim or "hand-offs", options)
        counted.setdefault(row, []).append(one.key in done)
    emit_rows(
        ("TOPOLOGY", "STACK", "TASK", "OPTIONS", "FINISHED"),
        [(*row, f"{sum(those)} of {len(those)}") for row, those in sorted(counted.items())],
    )
    emit(
        f"\n{len(record.tasks)} tasks, {len(done)} of them finished; "
        f"the rest takes a worker about {duration(seconds)}"
    )


@command("run", of=sweep)
def run(
    study: StudyFile,
    results: Results = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on; what is finished is not run again."),
    ] = False,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS",
            help="The Dask scheduler whose workers to use, such as tcp://lab.example.net:8786. (default: one "
            "worker here, on this engine)",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="KEY",
            help="Carry out this task alone, and write no table; for workflow systems, which share tasks out "
            "themselves. `sweep plan -o json` has the keys.",
        ),
    ] = None,
    output: Output = Format.table,
) -> None:
    """Carry out the tasks of a study, and write one table: results.csv and results.parquet.

    Each task has a lab of its own, which goes when the task ends, however it ends. Ctrl-C stops what is under
    way and keeps what is finished; --resume goes on. Exit code 1 if a task came to nothing.
    """
    from testbed.lab.interrupt import stoppable
    from testbed.sweep.cluster import check_extra, dask_workers
    from testbed.sweep.plan import load_plan
    from testbed.sweep.run import Sweep
    from testbed.sweep.store import Store
    from testbed.sweep.table import write_table

    check_extra()
    whole = load_plan(study)
    planned = whole if task is None else whole.only(task)
    folder = results or _beside(study)
    store, record = Store(folder), planned.record
    if (done := len(store.finished(record))) and not resume:
        raise UsageError(
            f"{done} of the {len(record.tasks)} tasks are finished in {folder}",
            hint="--resume goes on with the rest; --results DIR begins in another folder",
        )
    store.open(whole.record)
    tables: Sequence[Path] = ()
    try:
        with narrated() as progress, stoppable(), dask_workers(scheduler) as workers:
            work = Sweep(planned, store, workers, progress)
            finished = work.carry_out()
    finally:
        if task is None:
            tables = write_table(folder, store.finished(record))
    if output is Format.json:
        emit_json(
            {
                "study": record.name,
                "tasks": len(record.tasks),
                "finished": len(finished),
                "failed": [
                    {**one.task.model_dump(mode="json"), **one.trouble.model_dump()} for one in work.failures
                ],
                "results": [str(one) for one in tables],
            }
        )
    else:
        _print(finished, work.failures, len(record.tasks))
    note(f"results in {folder}: {', '.join([*(one.name for one in tables), 'the evidence of each task'])}")
    if work.failures:
        raise typer.Exit(ExitCode.FAILED)


@command("report", of=sweep)
def report(
    study: StudyFile,
    results: Results = None,
    write: Annotated[Path | None, page_option(f"{NAME} in the folder of the results")] = None,
) -> None:
    """Make one self-contained HTML page of a study's results, finished or not, and print its path.

    It draws the outages of hand-offs against the round-trip time and each quantity that is varied, and shows
    what claims came to with each combination, what is missing, and on which machines it was found out.
    """
    from testbed.report.study import render_study
    from testbed.sweep.store import Store

    store = Store(results or _beside(study))
    record = store.study()
    finished = store.finished(record)
    emit_page(
        lambda links: render_study(record, finished, links=links), write, store.root / NAME, about=store.root
    )


def _print(finished: Sequence[TaskRecord], failures: Sequence[Failure], total: int) -> None:
    from statistics import median

    groups: dict[tuple[str, ...], list[TaskRecord]] = {}
    for one in finished:
        options = " ".join(f"{name}={value}" for name, value in one.task.options.items())
        groups.setdefault((one.task.topology, one.task.stack, one.task.claim, options), []).append(one)
    lines = []
    for (topology, stack, claim, options), records in sorted(groups.items()):
        rows = [row for one in records for row in one.rows]
        if claim:
            verdicts = [str(row.verdict) for row in rows]
            says = ", ".join(f"{verdicts.count(each)} {each}" for each in dict.fromkeys(verdicts))
            lines.append((topology, stack, options, claim, says))
            continue
        for rtt in sorted({row.rtt_ms for row in rows if row.rtt_ms is not None}):
            outages = [row.outage_ms for row in rows if row.rtt_ms == rtt and row.outage_ms is not None]
            moves = sum(row.rtt_ms == rtt for row in rows)
            middle = f"median {median(outages):.0f} ms" if outages else "none ended"
            lines.append(
                (topology, stack, options, f"outage at RTT {rtt:g} ms", f"{middle} of {moves} moves")
            )
    emit_rows(("TOPOLOGY", "STACK", "OPTIONS", "WHAT", "CAME TO"), lines)
    for failure in failures:
        emit(f"\n{failure.task.what} failed: {failure.trouble}")
    emit(f"\n{len(finished)} of {total} tasks finished")


def _beside(study: Path) -> Path:
    return study.with_suffix(".results")
