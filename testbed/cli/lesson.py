"""`testbed lesson`: training lessons that check themselves."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.cli.app import LESSONS, command, group
from testbed.cli.labs import engine_connection, narrated
from testbed.cli.options import Output
from testbed.cli.output import Format, as_called, emit, emit_json, emit_rows, note
from testbed.errors import ErrorGroup, ExitCode, TestbedError, raise_errors

if TYPE_CHECKING:
    from testbed.lesson.attend import Surroundings
    from testbed.lesson.course import Course
    from testbed.lesson.progress import LessonProgress

lesson = group("lesson", panel=LESSONS, help="Lessons that check themselves in a lab of yours.")


def complete_lesson(incomplete: str) -> list[str]:
    """Shell completion: the built-in lessons."""
    from testbed.lesson.shelf import builtin_lessons

    return [one for one in builtin_lessons() if one.startswith(incomplete)]


Which = Annotated[
    str | None,
    typer.Option(
        "--lesson",
        metavar="NAME|FOLDER",
        help="A lesson that you have started (default: the one started last).",
        autocompletion=complete_lesson,
    ),
]


@command("list", of=lesson)
def list_lessons(output: Output = Format.table) -> None:
    """List the lessons in their order, and how far you have come in each."""
    from testbed.lesson.progress import read_progress
    from testbed.lesson.shelf import read_heads

    progress = read_progress()
    found = read_heads()
    if output is Format.json:
        emit_json({"lessons": [{"name": name, **asdict(one)} for name, one in found.items()]})
        return
    emit_rows(
        ("", "LESSON", "MINUTES", "TEACHES", "TITLE", "YOU"),
        [
            (one.number, name, one.minutes, one.section, one.title, _where(progress.lessons.get(name)))
            for name, one in found.items()
        ],
        keep={"LESSON"},
    )
    emit(as_called("\ntestbed lesson start NAME begins one, in a lab of its own"))


@command("start", of=lesson)
def start(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FOLDER",
            help="A built-in lesson by name or number, or a folder with lesson.yaml and text.md.",
            autocompletion=complete_lesson,
        ),
    ],
    lab: Annotated[
        str | None,
        typer.Option("--name", metavar="LAB", help="The name of its lab (default: that of the lesson)."),
    ] = None,
) -> None:
    """Start a lesson in a lab of its own, or go on with it where you left it.

    The lab of another lesson stays as it is. A lab that is gone is brought up again, to where your present
    task begins.
    """
    from testbed.lesson.attend import start as begin

    with _around() as around:
        started = begin(name, lab, around)
    now = started.course
    if started.as_it_was:
        note(f"lesson {now.name} is under way in lab {now.progress.lab}; testbed lesson reset sets that back")
    if not started.resumed:
        _introduce(now)
    _show_task(now)


@command("task", of=lesson)
def task(
    introduction: Annotated[
        bool, typer.Option("--introduction", help="Show the introduction of the lesson as well.")
    ] = False,
    which: Which = None,
    output: Output = Format.table,
) -> None:
    """Show the present task."""
    now = _course(which)
    if output is Format.json:
        emit_json(_facts(now))
        return
    if introduction:
        _introduce(now)
    _show_task(now)


@command("check", of=lesson)
def check(
    answer: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ANSWER", help="Your answer, where the task asks a question.", show_default=False
        ),
    ] = None,
    which: Which = None,
    output: Output = Format.table,
) -> None:
    """Check the present task in your lab, and say what is still missing.

    Where all of it holds the next task begins. Exit code 1 where something is missing.
    """
    from testbed.lesson.attend import check as decide

    now = _course(which)
    with engine_connection(now.progress.lab) as engine, narrated() as progress:
        progress.show("looking at your lab")
        came = decide(now, engine, " ".join(answer) if answer else None)
    if output is Format.json:
        missing = [now.text(one.missing) for one in came.outcomes if not one.held]
        emit_json({"lesson": now.name, "task": came.task + 1, "passed": came.passed, "missing": missing})
    elif came.passed:
        _passed(now, came.course, came.task)
    else:
        for one in came.outcomes:
            if not one.held:
                emit(as_called(now.text(f"✗ {one.missing}")))
                if one.observed:
                    note(f"  seen: {one.observed}", level=1)
        held = sum(one.held for one in came.outcomes)
        if held:
            emit(f"\n{held} of {len(came.outcomes)} checks hold")
        emit(as_called("testbed lesson hint helps"))
    if not came.passed:
        raise typer.Exit(ExitCode.FAILED)


@command("hint", of=lesson)
def hint(which: Which = None) -> None:
    """Show a hint; each call shows the next, which says more."""
    from testbed.cli.markdown import emit_markdown
    from testbed.lesson.attend import next_hint

    number, now = next_hint(_course(which))
    hints = now.task.hints
    emit_markdown(now.text(f"Hint {number + 1} of {len(hints)}: {hints[number]}"))
    if number + 1 == len(hints):
        emit(as_called("That was the last hint; testbed lesson solution shows the solution"))


@command("solution", of=lesson)
def solution(
    apply: Annotated[bool, typer.Option("--apply", help="Carry it out in your lab as well.")] = False,
    which: Which = None,
    output: Output = Format.table,
) -> None:
    """Show the solution of the present task. Your progress notes that you have seen it."""
    from testbed.lesson.attend import solution as solve
    from testbed.lesson.solution import run_command, typed

    def typed_and_run(words: Sequence[str]) -> int:
        note(f"$ testbed {shlex.join(words)}")
        return run_command(words)

    now = _course(which)
    deeds = [typed(now, deed) for deed in now.task.solution]
    if output is Format.table:
        for deed in deeds:
            emit(as_called(deed))
    with engine_connection(now.progress.lab) as engine:
        right, now = solve(now, engine, apply=typed_and_run if apply else None)
    if output is Format.json:
        emit_json({"lesson": now.name, "task": now.present + 1, "solution": deeds, "answer": right})
    elif now.task.answer is not None:
        answer = right or "the lab has it once the rest is done: --apply does it"
        unit = f" {now.task.answer.unit}" if right and now.task.answer.unit else ""
        emit(f"answer: {answer}{unit}")
    if output is Format.table and (apply or right):
        given = " ANSWER" if now.task.answer else ""
        emit(as_called(f"\ntestbed lesson check{given} checks it"))


@command("reset", of=lesson)
def reset(
    from_start: Annotated[
        bool,
        typer.Option("--from-start", help="Go back to the first task; your progress in it is forgotten."),
    ] = False,
    which: Which = None,
) -> None:
    """Set the lab back to where the present task begins, whatever has become of it."""
    from testbed.lesson.attend import set_back

    now = _course(which)
    with _around() as around:
        now = set_back(now, around, from_start=from_start)
    _show_task(now)


@command("stop", of=lesson)
def stop(which: Which = None) -> None:
    """Remove the lab of a lesson; your progress stays, and `start` goes on with it."""
    from testbed.lesson.attend import stop as end

    now = _course(which)
    with engine_connection(now.progress.lab) as engine, narrated() as progress:
        removed = end(now, engine, progress)
    lab = now.progress.lab
    note(f"removed lab {lab}" if removed else f"there is no lab {lab}; nothing to do")


@command("progress", of=lesson)
def progress(output: Output = Format.table) -> None:
    """Show how far you have come in the lessons that you have started."""
    from testbed.engine import names
    from testbed.lesson.progress import read_progress

    known = read_progress()
    if output is Format.json:
        lessons = {
            name: one.model_dump(mode="json", include={"lab", "started", "tasks"})
            | {"done": one.present is None}
            for name, one in known.lessons.items()
        }
        emit_json({"learner": names.owner(), "current": known.current, "lessons": lessons})
        return
    if not known.lessons:
        note("no lesson was started yet; testbed lesson list names them")
        return
    emit_rows(
        ("LESSON", "LAB", "TASKS", "ATTEMPTS", "HINTS", "SOLUTIONS", "YOU"),
        [
            (
                name,
                one.lab,
                len(one.tasks),
                sum(each.attempts for each in one.tasks),
                sum(each.hints for each in one.tasks),
                sum(each.solution for each in one.tasks),
                _where(one),
            )
            for name, one in known.lessons.items()
        ],
        keep={"LAB"},
    )


@command("validate", of=lesson)
def validate(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME|FOLDER",
            help="Lessons of your own, or built-in ones; the path of a lesson.yaml works, too.",
        ),
    ],
) -> None:
    """Check lessons: their files, their steps and checks, and every name in them. No engine is needed."""
    from testbed.lesson.load import load_lesson

    errors: list[TestbedError] = []
    for folder in folders:
        try:
            loaded = load_lesson(folder)
        except TestbedError as error:
            errors += error.errors if isinstance(error, ErrorGroup) else [error]
        else:
            tasks = len(loaded.lesson.tasks)
            note(f"{folder}: {loaded.lesson.title}: {tasks} task{'s' * (tasks != 1)}, valid")
    raise_errors(errors)


@contextmanager
def _around() -> Iterator[Surroundings]:
    """The engine, the node image and the address pool, as for `up`."""
    from contextlib import closing

    from testbed.engine.image import ensure_node_image
    from testbed.engine.provision import reach_engine
    from testbed.lab.addresses import choose_pool
    from testbed.lesson.attend import Surroundings

    with closing(reach_engine(note)) as engine:
        image = ensure_node_image(engine, note, detail=partial(note, level=1))
        with narrated() as telling:
            yield Surroundings(engine, image.name, choose_pool(), telling)


def _course(which: str | None) -> Course:
    from testbed.lesson.course import course

    return course(which)


def _where(progress: LessonProgress | None) -> str:
    if progress is None:
        return ""
    return "done" if progress.present is None else f"task {progress.present + 1} of {len(progress.tasks)}"


def _introduce(now: Course) -> None:
    from testbed.cli.markdown import emit_markdown

    one = now.loaded.lesson
    head = f"## Lesson {one.number}: {one.title}\n\n{one.goal} ({one.section}, about {one.minutes} minutes)"
    emit_markdown(f"{head}\n\n{now.text(now.loaded.text)}")


def _show_task(now: Course) -> None:
    from testbed.cli.markdown import emit_markdown

    task, count = now.task, len(now.loaded.lesson.tasks)
    text = f"## Task {now.present + 1} of {count}: {task.title}\n\n{now.text(task.text)}"
    if answer := task.answer:
        choices = f" ({', '.join(answer.choices)})" if answer.choices else ""
        text += f"\n\n**{answer.question}**{choices}\n\nAnswer with `testbed lesson check ANSWER`."
    else:
        text += "\n\nThen type `testbed lesson check`."
    emit_markdown(text)


def _passed(before: Course, now: Course, index: int) -> None:
    from testbed.cli.markdown import emit_markdown

    emit_markdown(now.text(f"✓ Task {index + 1} is done.\n\n{before.task.explain}"))
    if now.progress.present is not None:
        _show_task(now)
        return
    emit_markdown(now.text(f"## Lesson {now.loaded.lesson.number} is done\n\n{now.loaded.lesson.learned}"))
    emit(as_called("testbed lesson stop removes its lab; testbed lesson list names the next one"))


def _facts(now: Course) -> dict[str, Any]:
    task = now.task
    return {
        "lesson": now.name,
        "lab": now.progress.lab,
        "task": now.present + 1,
        "tasks": len(now.loaded.lesson.tasks),
        "title": task.title,
        "text": now.text(task.text),
        "question": task.answer.question if task.answer else None,
    }
