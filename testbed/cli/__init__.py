"""The command line: one file per command, no logic of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer

from testbed.cli.app import Quiet, Verbose, app, set_verbosity
from testbed.cli.complete import complete_context
from testbed.cli.errors import report as report_error
from testbed.cli.output import called, choice, degrade, drop_stdout, verbosity
from testbed.errors import ExitCode

COMPLETE = "_TESTBED_COMPLETE"
"""The environment variable by which a shell asks for completions, whatever the command was called."""

COMMANDS = (
    *("up", "status", "move", "roam", "set", "fail", "heal", "exec", "shell", "restart", "diff", "reset"),
    *("logs", "capture", "watch", "down"),
    *("verify", "matrix", "solutions", "judge", "measure", "sweep", "simulate"),
    *("explain", "vocabulary", "report", "compare"),
    "lesson",
    *("list", "show", "validate", "render", "export", "graph", "schema"),
    *("build", "doctor", "completion"),
)
"""The command files, in the order of `--help`; each registers itself."""

for _command in COMMANDS:
    import_module(f"testbed.cli.{_command}")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"testbed {version('testbed')}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
    context: Annotated[
        str | None,
        typer.Option(
            "--context",
            metavar="NAME",
            help="The docker context of the engine to use, instead of DOCKER_HOST and the current context.",
            autocompletion=complete_context,
        ),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Reproduce the problems of Mobile IPv4 traversal of VPN gateways (RFC 4093) in real containers."""
    set_verbosity(quiet, verbose)
    if context:
        os.environ["DOCKER_CONTEXT"] = context
        os.environ.pop("DOCKER_HOST", None)  # which docker heeds first
        choice.context = context


@cache  # it takes longer than most commands do
def _built() -> Any:
    command = typer.main.get_command(app)
    # Typer's own, which completes neither `./tb` nor what follows an `=`; `testbed completion` does.
    command.params = [one for one in command.params if not str(one.name).endswith("_completion")]
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (see `testbed.errors.ExitCode`)."""
    verbosity.level, choice.context = 0, None
    for name in ("stdout", "stderr"):  # closed by who started us (`>&-`): what is printed goes nowhere
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        degrade(getattr(sys, name))
    try:
        # Not `list(…)`: in this package that name is the module of `testbed list`.
        _built()(
            [*(sys.argv[1:] if arguments is None else arguments)],
            prog_name=called(),
            complete_var=COMPLETE,
        )
    except SystemExit as stop:
        code = (
            stop.code if isinstance(stop.code, int) else ExitCode.OK if stop.code is None else ExitCode.FAILED
        )
        if isinstance(stop.__context__, BrokenPipeError):  # the reader went away: typer and rich call that 1
            code = ExitCode.OK
    except BaseException as error:
        code = report_error(error)
    try:
        sys.stdout.flush()
    except OSError as error:
        drop_stdout()
        if code == ExitCode.OK and not isinstance(error, BrokenPipeError):
            code = report_error(error)
    if arguments is None and code == ExitCode.INTERRUPTED:
        # Threads may still be taking something down; who asks once more does not want to wait for them.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code
