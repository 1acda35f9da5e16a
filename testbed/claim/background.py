"""Programs that a step starts in a node and that go on until the end of the run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from testbed.agreed import RUN
from testbed.claim.action import Actor

_START = """\
mkdir -p {folder}; out={folder}/$$
{command} >$out 2>$out.err &
pid=$!
until grep -q running $out; do
    kill -0 $pid 2>/dev/null || {{ cat $out.err >&2; exit 1; }}
    sleep 0.02
done
echo $pid
"""
_END = """\
kill {pid} 2>/dev/null || :
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 {pid} 2>/dev/null || exit 0; sleep 0.1; done
kill -9 {pid} 2>/dev/null || :  # it may have ended since it was looked at
"""


def start(lab: Actor, node: str, what: str, command: Sequence[str]) -> str:
    """Start a program and wait until it prints `running`; it is ended with the run.

    `what` is what `end` calls it; returns its process id. Raises `StepError` where it ends before.
    """
    done = lab.shell(node, _START.format(folder=f"{RUN}/background", command=shlex.join(command)))
    pid = done.text.strip()
    lab.at_end(what, lambda: stop(lab, node, pid), lambda: stop(lab, node, pid))
    return pid


def stop(lab: Actor, node: str, pid: str) -> None:
    """End a program, and wait for that. Raises `StepError`."""
    lab.shell(node, _END.format(pid=pid))
