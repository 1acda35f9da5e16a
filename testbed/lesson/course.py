"""A lesson that a learner has started: where it is, and what is written down of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from testbed.document.marks import Path as Place
from testbed.errors import UsageError, did_you_mean
from testbed.lesson.load import LoadedLesson, find_lesson, load_lesson
from testbed.lesson.model import LAB, Task
from testbed.lesson.progress import LessonProgress, TaskProgress, changing, read_progress
from testbed.lesson.shelf import builtin_lessons

_WORD: Final = re.compile(rf"\b{LAB}\b")


@dataclass(frozen=True)
class Course:
    """A lesson that a learner has started."""

    name: str
    """As the progress has it: the lesson's name, or the path of its folder."""
    loaded: LoadedLesson
    progress: LessonProgress

    @property
    def present(self) -> int:
        """The index of the present task. Raises `UsageError` where all are passed."""
        found = self.progress.present
        if found is None:
            raise UsageError(
                f"all {len(self.progress.tasks)} tasks of {self.name} are passed",
                hint="testbed lesson list names the other lessons; testbed lesson reset --from-start "
                "begins this one again",
            )
        return found

    @property
    def task(self) -> Task:
        """The present task. Raises `UsageError` where all are passed."""
        return self.loaded.task(self.present)

    @property
    def place(self) -> Place:
        """Where the present task is in the lesson's file."""
        return ("tasks", self.present)

    def text(self, text: str) -> str:
        """A text of the lesson, with the lab's name in it."""
        return _WORD.sub(self.progress.lab, text).strip()


def course(name: str | None = None) -> Course:
    """The lesson that a learner is in, or another that was started, by name. Raises `UsageError`."""
    progress = read_progress()
    wanted = key(name) if name else progress.current
    if wanted is None:
        raise UsageError("no lesson is under way", hint="testbed lesson list, then testbed lesson start NAME")
    if wanted not in progress.lessons:
        hint = f"testbed lesson start {wanted}" if wanted in builtin_lessons() else None
        raise UsageError(
            f"lesson {wanted} was not started", hint=hint or did_you_mean(wanted, progress.lessons)
        )
    return made_course(wanted, progress.lessons[wanted])


def made_course(name: str, progress: LessonProgress) -> Course:
    """A lesson with its progress; what a changed lesson has more or less of tasks, the progress gets."""
    loaded = load_lesson(progress.file)
    if len(loaded.lesson.tasks) != len(progress.tasks):
        tasks = progress.tasks[: len(loaded.lesson.tasks)]
        tasks += [TaskProgress() for _ in range(len(loaded.lesson.tasks) - len(tasks))]
        progress = progress.model_copy(update={"tasks": tasks})
    return Course(name, loaded, progress)


def key(ref: str) -> str:
    """What the progress calls a lesson: its name, or the whole path of a folder of the learner's own."""
    folder = find_lesson(ref)
    return folder.name if folder in builtin_lessons().values() else str(folder.resolve())


def changed(now: Course, index: int, **change: Any) -> Course:
    """The same with something else of a task, which is written nowhere."""
    tasks = list(now.progress.tasks)
    tasks[index] = tasks[index].model_copy(update=change)
    return Course(now.name, now.loaded, now.progress.model_copy(update={"tasks": tasks}))


def noted(now: Course, index: int, **change: Any) -> Course:
    """Write down something of a task."""
    made = changed(now, index, **change)
    with changing() as progress:
        progress.lessons[now.name] = made.progress
    return made
