"""Being asked to stop: Ctrl-C, SIGTERM and SIGHUP are treated alike and handled at safe points.

Asked again while what was made is being removed, only a person is impatient: a second Ctrl-C ends that too. A
scheduler or a container's runtime that repeats its SIGTERM does not mean that anything may be left behind.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType, TracebackType
from typing import Any, ClassVar, Final, Self, TypeVar

from testbed.errors import ExitCode, TestbedError

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ONE_REQUEST: Final = 0.1  # seconds: timeout(1) signals the process and then its group, and means it once
_Result = TypeVar("_Result")

Stopping = Callable[[], bool]
"""Whether to stop, for threads, which get no signals: where it is true, it is as if they were interrupted."""


def never() -> bool:
    """Nobody else asks to stop."""
    return False


_GLANCE: Final = 0.2  # seconds between two looks whether to stop


@contextmanager
def stopped_by(stopping: Stopping, stop: Callable[[], None]) -> Iterator[None]:
    """While entered, call `stop` once as soon as it is `stopping`: it ends what this thread waits for."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_GLANCE):
            if stopping():
                stop()
                return

    if stopping is not never:
        threading.Thread(target=look, name="stopping", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


class Interrupted(TestbedError):
    """Interrupted before everything was put in order; the message says what is left."""

    exit_code = ExitCode.INTERRUPTED


class _Signals:
    """While entered, in the main thread, being asked to stop calls `asked`. What is ignored stays ignored."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}

    _last: ClassVar[float] = -math.inf  # when a signal came, whoever heard it
    _politely: ClassVar[bool] = False  # SIGTERM or SIGHUP came: once is enough

    def asked(self) -> None:
        raise KeyboardInterrupt

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        again, _Signals._last = now - _Signals._last < _ONE_REQUEST, now
        if number != signal.SIGINT:
            again, _Signals._politely = again or _Signals._politely, True
        if not again:
            self.asked()

    def __enter__(self) -> Self:
        # Only the main thread gets signals, and only it may say what becomes of them.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def stoppable() -> AbstractContextManager[object]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does."""
    if threading.current_thread() is threading.main_thread():
        # What came before was not for what begins now.
        _Signals._last, _Signals._politely = -math.inf, False
    return _Signals()


class Deferred(_Signals):
    """Holds KeyboardInterrupt back until `open` or the end, so that what is between happens as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self._open = False
        self._pending = False

    def asked(self) -> None:
        """Raise now or remember it."""
        if self._open:
            raise KeyboardInterrupt
        self._pending = True

    def open(self, function: Callable[[], _Result]) -> _Result:
        """Call a function that may be interrupted."""
        try:
            self._open = True
            self._raise_pending()
            return function()
        finally:
            self._open = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is None:
            self._raise_pending()

    def _raise_pending(self) -> None:
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt
