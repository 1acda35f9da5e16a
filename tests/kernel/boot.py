"""An ordinary kernel for a command: user-mode Linux, a process like any other, with ipip, gre and esp."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INIT = Path(__file__).with_name("init")
MEMORY = "1G"
GRACE = 10.0
"""Seconds for a kernel that is to end by itself, until it is killed."""
MACHINES = {"x86_64"}
"""Where there is user-mode Linux at all."""


@dataclass(frozen=True)
class Ended:
    """How a command ended there; `code` is None where the kernel did not get that far."""

    code: int | None
    output: str
    console: str


def unsupported() -> str:
    """Why this processor runs no user-mode Linux; "" where it may."""
    if platform.machine() not in MACHINES:
        return f"user-mode Linux: it is not made for {platform.machine()}"
    flags = Path("/proc/cpuinfo").read_text()
    if " amx_tile" in flags:  # its state is larger than what the packaged kernel keeps of a process
        return "user-mode Linux: Debian's cannot run on a processor with AMX"
    return ""


def run(
    command: Sequence[str],
    folder: Path,
    *,
    within: float,
    environment: Mapping[str, str],
    kernel: Sequence[str] = ("linux.uml", f"mem={MEMORY}"),
) -> Ended:
    """Run a command under a kernel of its own; `folder` is its only place to write that stays (/run/out).

    `kernel` is the program and its first arguments. The command ends after `within` seconds at most.
    """
    settings = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in environment.items())
    (folder / "command").write_text(f"{settings}exec {shlex.join(command)}\n")
    line = [
        # Neither it nor any of its processes outlives these tests, however they end.
        *("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("sh", "-c", '"$@"; exit $?', "sh"),
        *("taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))),  # on two it is slower by half
        *kernel,
        *("root=none", "rootfstype=hostfs", "rootflags=/", "ro", f"init={INIT}"),
        *("con=null", "con0=null,fd:1", "quiet", f"OUT={folder}", f"WITHIN={within:g}"),
    ]
    try:
        done = subprocess.run(
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=within + GRACE,
        )
        console = done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as error:
        console = (error.stdout or b"").decode(errors="replace") + f"\nnot done within {within:g} s\n"
    code, log = folder / "code", folder / "log"
    return Ended(
        int(code.read_text()) if code.exists() else None,
        log.read_text(errors="replace") if log.exists() else "",
        console,
    )
