"""The end of a program that goes on until the end of a run."""

from __future__ import annotations

import subprocess

from testbed.claim.background import _END

_DEAF = "trap '' TERM; while :; do sleep 0.05; done >/dev/null 2>&1 & echo $!"
"""A program that does not hear TERM, and its process id."""
_GONE = "while grep -qs '^State:.[^Z]' /proc/{pid}/status; do command sleep 0.01; done"
"""Waits until it has ended. Where no process 1 asks how, as in some containers, it stays a zombie."""
_LATE = """\
looked=0
sleep() {{
    looked=$((looked + 1))
    [ $looked -lt 10 ] || {{ kill -9 {pid}; {gone}; }}
}}
"""
"""Ends the program after it was looked at for the last time."""


def shell(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-ec", script], capture_output=True, text=True, timeout=60, check=False)


def test_a_deaf_program_ends() -> None:
    pid = shell(_DEAF).stdout.strip()
    assert shell(_END.format(pid=pid)).returncode == 0
    assert shell(_GONE.format(pid=pid)).returncode == 0


def test_a_program_that_ends_in_the_last_moment_is_no_failure() -> None:
    pid = shell(_DEAF).stdout.strip()
    done = shell(_LATE.format(pid=pid, gone=_GONE.format(pid=pid)) + _END.format(pid=pid))
    assert (done.returncode, done.stderr) == (0, "")
