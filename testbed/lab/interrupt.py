"""Being asked to stop: Ctrl-C, SIGTERM and SIGHUP are one thing."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from testbed.errors import ExitCode, TestbedError


class Interrupted(TestbedError):
    """Interrupted before everything was put in order; the message says what is left."""

    exit_code = ExitCode.INTERRUPTED


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread, as SIGINT does."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals, and only it may say what becomes of them
        return
    before = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
