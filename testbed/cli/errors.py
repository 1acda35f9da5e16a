"""From an exception to what the user reads on stderr and the exit code of the process."""

from __future__ import annotations

import traceback

from testbed.cli.output import colour, tell, verbosity
from testbed.errors import DISK_FULL, ErrorGroup, ExitCode, TestbedError, cannot_write


def show_error(error: TestbedError) -> None:
    """Print an error, or every error of a group and how many there were."""
    errors = error.errors if isinstance(error, ErrorGroup) else (error,)
    for one in errors:
        where = f"{one.source}: " if one.source else ""
        tell(f"{colour('error:', '1;31')} {where}{one.message}")
        if one.hint:
            tell(f"  {colour('hint:', '36')} {one.hint}")
    if len(errors) > 1:
        tell(f"{len(errors)} errors")


def report(error: BaseException) -> int:
    """Show any exception as a user should see it; returns the exit code.

    What is not a `TestbedError` is a mistake of ours: it says so and shows where, in full with -vv.
    """
    if isinstance(error, KeyboardInterrupt):
        tell("interrupted")
        return ExitCode.INTERRUPTED
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        error = cannot_write(error.filename or "the output", error)
    if isinstance(error, TestbedError):
        show_error(error)
        if verbosity.level >= 2:
            traceback.print_exception(error)
        return error.exit_code
    if verbosity.level >= 2:
        traceback.print_exception(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
    tell(f"{colour('error:', '1;31')} a mistake in testbed itself: {what}")
    tell(f"  {colour('hint:', '36')} run it again with -vv and report the traceback")
    return ExitCode.FAILED
