"""Commands inside nodes that have the caller's own streams, and his terminal if there is one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from threading import Event, Thread
from types import FrameType
from uuid import uuid4

from testbed.engine.api import Container, Engine, ExecSession
from testbed.errors import ExitCode
from testbed.lab.inside import run_inside

_MARK = "TESTBED_EXEC"

_SIGNAL_MARKED = """\
for environment in /proc/[0-9]*/environ; do
    if grep -q "$1" "$environment" 2>/dev/null; then
        process=${environment#/proc/}
        kill -INT "${process%/*}"
    fi
done
"""

_SHELL = "if command -v bash >/dev/null; then exec bash; else exec sh; fi"


def run_here(engine: Engine, container: Container, command: Sequence[str]) -> int:
    """Run a command in a node with this process's standard streams; return its exit code.

    The command gets a terminal when this process has one at both ends. An interrupt reaches it as SIGINT.
    """
    if _has_terminal():
        # env: a missing command then is exit code 127 and not an error of the engine
        return _in_terminal(engine, container, ["env", f"TERM={_terminal_kind()}", *command])
    return _in_pipes(engine, container, command)


def shell_here(engine: Engine, container: Container) -> int:
    """Run a shell in a node, in this terminal, or fed from standard input; return its exit code."""
    return run_here(engine, container, ["sh", "-c", _SHELL])


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _terminal_kind() -> str:
    return os.environ.get("TERM", "xterm")


def _in_pipes(engine: Engine, container: Container, command: Sequence[str]) -> int:
    # The mark finds the command and its children again: the engine has no call that signals them.
    mark = f"{_MARK}={uuid4().hex}"

    def interrupt() -> None:
        run_inside(engine, container, ["sh", "-c", _SIGNAL_MARKED, "sh", mark])

    with (
        engine.execute(container.id, ["env", mark, *command], stdin=True) as session,
        _interrupts_to(interrupt) as interrupted,
    ):
        Thread(target=_feed, args=(session,), daemon=True).start()
        _copy(session)
        return ExitCode.INTERRUPTED if interrupted.is_set() else session.exit_code()


def _in_terminal(engine: Engine, container: Container, command: Sequence[str]) -> int:
    with engine.execute(container.id, command, stdin=True, tty=True) as session, _raw_terminal(session):
        Thread(target=_feed, args=(session,), daemon=True).start()
        _copy(session)
        return session.exit_code()


def _copy(session: ExecSession) -> None:
    for stream, data in session:
        descriptor = 1 if stream == "stdout" else 2
        while data:
            data = data[os.write(descriptor, data) :]


def _feed(session: ExecSession) -> None:
    # Not sys.stdin: a thread that holds its lock would keep the interpreter from ending.
    with contextlib.suppress(OSError):
        while data := os.read(0, 65536):
            session.send(data)
    session.end_input()


@contextlib.contextmanager
def _interrupts_to(act: Callable[[], None]) -> Iterator[Event]:
    """Call `act` on the first Ctrl-C while all goes on; the second is a KeyboardInterrupt as ever."""
    interrupted = Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        # An exception now would end the iteration that still has the command's last words to read.
        Thread(target=act, daemon=True).start()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _raw_terminal(session: ExecSession) -> Iterator[None]:
    """Hand every key to the other side, and the window's size whenever it changes."""

    def resize(number: int = 0, frame: FrameType | None = None) -> None:
        size = shutil.get_terminal_size()
        session.resize(size.lines, size.columns)

    before = termios.tcgetattr(0)
    handler = signal.signal(signal.SIGWINCH, resize)
    try:
        tty.setraw(0)
        resize()
        yield
    finally:
        signal.signal(signal.SIGWINCH, handler)
        termios.tcsetattr(0, termios.TCSADRAIN, before)
