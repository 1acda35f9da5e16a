"""Which process is which: by host, boot, process id and start time, which no other process has."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A process on some machine. None of its texts holds a space."""

    host: str
    boot: str
    """The boot of the host's kernel; "" where the system has no /proc."""
    space: str
    """The namespace that its process id is of."""
    pid: int
    start: str
    """When it was started, in clock ticks since the boot; "" where the system has no /proc."""

    @classmethod
    def here(cls, pid: int | None = None) -> Process:
        """A process of this machine: this one, or another that runs."""
        pid = os.getpid() if pid is None else pid
        return cls(socket.gethostname(), _boot(), _space(), pid, _start(pid) or "")

    @classmethod
    def parse(cls, text: str) -> Process | None:
        """Read what `str` wrote; None for anything else."""
        words = text.split(" ")
        if len(words) != 5 or not words[3].isdecimal():
            return None
        return cls(words[0], words[1], words[2], int(words[3]), words[4])

    def __str__(self) -> str:
        return f"{self.host} {self.boot} {self.space} {self.pid} {self.start}"

    @property
    def dead(self) -> bool:
        """Whether it is known to have ended.

        Nothing is known of a process of another host, or of a process in another container of this one.
        """
        if self.host != socket.gethostname():
            return False
        if self.boot != _boot():
            return True
        return self.space == _space() and _start(self.pid) != self.start


def _start(pid: int) -> str | None:
    """When a process was started; None where there is none, or only one that nobody has buried yet."""
    try:
        # The name of the program comes second, in parentheses, and may hold anything.
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self").exists() else _signalled(pid)
    return None if state in "ZX" else fields[18]


def _signalled(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return ""
    except OSError:
        return None
    return ""


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
