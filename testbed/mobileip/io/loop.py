"""Waits for descriptors and a deadline; nothing is polled."""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType


class Loop:
    """Calls back when a descriptor is readable; SIGTERM and SIGINT end it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._stopping = False
        self._wake, theirs = socket.socketpair()
        self._theirs = theirs
        for end in (self._wake, theirs):
            end.setblocking(False)
        self.add(self._wake.fileno(), lambda: None)

    def catch_signals(self) -> None:
        """From now on SIGTERM and SIGINT make `run` return."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        # The handler may run just before the loop begins to wait: this ends that wait.
        signal.set_wakeup_fd(self._theirs.fileno())

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Make `run` return, once it has called back."""
        self._stopping = True

    def add(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `descriptor` is readable or has an error."""
        self._callbacks[descriptor] = callback
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """Forget `descriptor`; before it is closed."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def run(self, deadline: Callable[[], float | None], after: Callable[[], None]) -> None:
        """Until a signal: wait for a descriptor or `deadline()`, call back, then call `after`."""
        while not self._stopping:
            until = deadline()
            timeout = None if until is None else max(0.0, until - time.monotonic())
            for descriptor, _ in self._epoll.poll(timeout):
                if callback := self._callbacks.get(descriptor):
                    callback()
            after()
