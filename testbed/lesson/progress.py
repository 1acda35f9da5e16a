"""How far a learner has come: one file per user, in the folder for state (XDG_STATE_HOME)."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from testbed.errors import UsageError, writing

_FILE: Final = "lessons.json"


class TaskProgress(BaseModel):
    """What a learner did with one task; times are s since the epoch."""

    attempts: int = 0
    """How often it was checked, the last time included."""
    hints: int = 0
    """How many hints were shown."""
    solution: bool = False
    """Whether the solution was shown."""
    passed: float | None = None
    """When it was passed; None: not yet."""


class LessonProgress(BaseModel):
    """What a learner did with one lesson."""

    file: str
    """The lesson's folder, as `find_lesson` takes it: a built-in name, or the whole path."""
    lab: str
    started: float
    """When it was started first, in s since the epoch."""
    tasks: list[TaskProgress]
    began: float = 0.0
    """When the present task began, by the engine's clock."""
    seen: dict[str, Any] = Field(default_factory=dict)
    """What its checks have to know of its beginning."""

    @property
    def present(self) -> int | None:
        """The first task that is not passed, counted from 0; None: all are."""
        return next((index for index, one in enumerate(self.tasks) if one.passed is None), None)


class Progress(BaseModel):
    """The whole file."""

    model_config = ConfigDict(validate_assignment=True)

    current: str | None = None
    """The lesson that commands are about where none is named: the one started last."""
    lessons: dict[str, LessonProgress] = Field(default_factory=dict)


def state_file() -> Path:
    """Where the progress of this user is kept."""
    folder = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return folder / "testbed" / _FILE


def read_progress() -> Progress:
    """The progress of this user. Raises `UsageError` where the file is not as it was written."""
    file = state_file()
    try:
        return Progress.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return Progress()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except ValidationError as error:
        raise UsageError(
            f"{file} does not hold the progress of lessons", hint="move it away to begin anew"
        ) from error


@contextmanager
def changing() -> Iterator[Progress]:
    """The progress of this user, written when the block ends without an error; others wait meanwhile."""
    file = state_file()
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.with_suffix(".lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        progress = read_progress()
        yield progress
        new = file.with_suffix(".new")
        with writing(file):
            new.write_text(json.dumps(progress.model_dump(mode="json"), indent=1), encoding="utf-8")
            new.replace(file)
