"""Commands as users type them, in the tests' own process: a process of each would load the program anew."""

from __future__ import annotations

import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

from node_programs import Done

from testbed.cli import main


def command(*arguments: str) -> Done:
    """Run a command to its end. Not `exec`, which has the process's own streams."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    return Done(out.getvalue(), err.getvalue(), code)


def data(*arguments: str) -> dict[str, Any]:
    """The JSON document that a command prints."""
    done = command(*arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
