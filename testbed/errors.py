"""The one error root: what went wrong, where, what was expected, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from errno import EDQUOT, ENOSPC
from typing import Final

DISK_FULL: Final = (ENOSPC, EDQUOT)


class ExitCode(IntEnum):
    """What a `testbed` process ends with."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        """A code is its number; the meaning is for readers."""
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    OK = 0, "all went well"
    FAILED = 1, "a claim or check failed"
    USAGE = 2, "the command line does not fit: a wrong name, option or --set, or evidence that is unreadable"
    ENVIRONMENT = 3, "the machine lacks something: an engine, a device, a capability"
    TOPOLOGY = 4, "a topology or template is invalid"
    NOT_READY = 5, "something did not become ready in time"
    INTERRUPTED = 130, "interrupted, by Ctrl-C or a signal"


@dataclass(frozen=True, slots=True)
class Source:
    """A place in a file; line and column count from 1."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


class TestbedError(Exception):
    """An error for people: one message, an optional hint and source, and the exit code it ends in."""

    __test__ = False  # not a pytest class
    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None, source: Source | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.source = source

    def __str__(self) -> str:
        where = f"{self.source}: " if self.source else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{where}{self.message}{hint}"

    def to_dict(self) -> dict[str, str | int | None]:
        """The error for JSON output."""
        source = self.source or Source("")
        return {
            "message": self.message,
            "hint": self.hint,
            "file": source.file or None,
            "line": source.line,
            "column": source.column,
        }


class UsageError(TestbedError):
    """The command line asks for something that does not exist or does not fit."""

    exit_code = ExitCode.USAGE


class MachineError(TestbedError):
    """The machine lacks something: an engine, a device, a capability."""

    exit_code = ExitCode.ENVIRONMENT


class TopologyError(TestbedError):
    """A topology file or template is invalid."""

    exit_code = ExitCode.TOPOLOGY


class NotReadyError(TestbedError):
    """Something did not become ready within its bound."""

    exit_code = ExitCode.NOT_READY


class StepError(TestbedError):
    """Something in a lab could not be done or asked, or was not recorded: it decides nothing."""


class ErrorGroup(TestbedError):
    """Every error of one stage, reported at once; ends in the exit code of the first."""

    def __init__(self, errors: Iterable[TestbedError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))
        self.exit_code = self.errors[0].exit_code


def raise_errors(errors: Iterable[TestbedError]) -> None:
    """Raise what a stage found: nothing, the one error as it is, or all of them as an `ErrorGroup`.

    Groups among them are taken apart, so that a reader sees one flat list.
    """
    flat: list[TestbedError] = []
    for error in errors:
        flat.extend(error.errors if isinstance(error, ErrorGroup) else [error])
    if len(flat) == 1:
        raise flat[0]
    if flat:
        raise ErrorGroup(flat)


def cannot_write(what: object, error: OSError) -> TestbedError:
    """The error that something cannot be written: the user's, who named it, unless the disk is full."""
    kind = MachineError if error.errno in DISK_FULL else UsageError
    return kind(f"cannot write {what}: {error.strerror}")


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Raise `cannot_write` for what the machine refuses while something is written."""
    try:
        yield
    except OSError as error:
        raise cannot_write(what, error) from error


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A hint for a name not among the known ones: the nearest of them, else all; None if there are none."""
    names = [str(one) for one in known]
    near = get_close_matches(name.lower(), names, n=1, cutoff=0.6 if len(name) > 3 else 0.5)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(names)}" if names else None
