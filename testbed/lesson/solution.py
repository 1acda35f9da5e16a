"""The solution of a task: what a learner would type, and doing it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

from testbed.claim.steps import Step
from testbed.errors import StepError
from testbed.lesson.bench import Bench
from testbed.lesson.course import Course
from testbed.lesson.model import Deed

_REFUSED: Final = 2
"""The lowest exit code of a command that was not carried out; 1 may be what the command is to show."""

Command = Callable[[Sequence[str]], int]
"""Runs a command of testbed, without its first word; returns its exit code."""


def carry_out(now: Course, bench: Bench, index: int, command: Command) -> None:
    """Carry out the solution of a task. Raises `StepError`."""
    for number, deed in enumerate(now.loaded.task(index).solution):
        if isinstance(deed, Step):
            bench.perform([deed], ("tasks", index, "solution", number))
            continue
        words = shlex.split(now.text(deed))
        if (code := command(words[1:])) >= _REFUSED:
            raise StepError(f"{shlex.join(words)} ended with exit code {code}")


def typed(now: Course, deed: Deed) -> str:
    """What a learner types to do what a solution says; a step without a command as its phrase."""
    if isinstance(deed, str):
        return now.text(deed)
    lab, keys = now.progress.lab, deed.part.model_dump(by_alias=True)
    mobile = now.loaded.topology.mobile_nodes[0]
    match deed.word:
        case "move" if not keys.get("nodes") and keys["times"] == 1:
            who = keys["node"] or mobile
            return "\n".join(f"testbed move {lab} {who} {network}" for network in keys["to"])
        case "run":
            return f"testbed exec {lab} {keys['node']} -- sh -c {shlex.quote(keys['command'])}"
        case "ping" if not keys["source"]:
            return f"testbed exec {lab} {keys['from']} -- ping -c {keys['count']} {keys['to']}"
        case "service":
            path = f"/etc/testbed/services/{keys['name']}"
            return f"testbed exec {lab} {keys['node']} -- sv {keys['state']} {path}"
    return f"({deed.phrase()}: testbed lesson solution --apply does it)"


def run_command(words: Sequence[str]) -> int:
    """Run a command of testbed as a process, with this one's terminal; its output goes to standard error."""
    return subprocess.run(
        [sys.executable, "-m", "testbed", *words], stdout=sys.stderr, check=False
    ).returncode


def quietly(words: Sequence[str]) -> int:
    """Run a command of testbed as a process; nobody sees its output unless it is not carried out."""
    done = subprocess.run(
        [sys.executable, "-m", "testbed", *words], capture_output=True, text=True, check=False
    )
    if done.returncode >= _REFUSED:
        print(done.stderr, end="", file=sys.stderr, flush=True)
    return done.returncode
