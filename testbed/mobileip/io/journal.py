"""Events as JSON lines: on stdout, and to subscribers."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from testbed.mobileip.io.json_line import encoder

Listener = Callable[[bytes], None]
_encode = encoder()


def encode(message: object) -> bytes:
    """One JSON line."""
    return _encode(message).encode() + b"\n"


class Journal:
    """Reports events; `source` names the daemon."""

    def __init__(self, source: str, output: int = 1) -> None:
        self.source = source
        self._output = output
        self._listeners: dict[Listener, None] = {}
        self._held: list[bytes] | None = None

    def subscribe(self, listener: Listener) -> None:
        """Hand every line from now on to `listener` too."""
        self._listeners[listener] = None

    def unsubscribe(self, listener: Listener) -> None:
        """Hand `listener` no more."""
        self._listeners.pop(listener, None)

    def tell(
        self, event: str, fields: Mapping[str, object] | None = None, also: Iterable[Listener] = ()
    ) -> None:
        """Report an event that happened now (seconds of the monotonic clock), this one to `also` as well."""
        head = {"event": event, "source": self.source, "monotonic": int(time.monotonic() * 1e6) / 1e6}
        self.pass_on(encode({**head, **(fields or {}), **head}), also)

    def pass_on(self, line: bytes, also: Iterable[Listener] = ()) -> None:
        """Report an event that is encoded already, here or by another process of this daemon."""
        if self._held is not None:
            self._held.append(line)
        else:
            self._write(line)
        if self._listeners or also:
            for listener in {**self._listeners, **dict.fromkeys(also)}:
                listener(line)

    def _write(self, lines: bytes) -> None:
        with suppress(OSError):  # nobody reads stdout any more
            os.write(self._output, lines)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what is reported meanwhile to stdout at the end, in few system calls."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            some = b""
            for line in held:
                if some and len(some) + len(line) > select.PIPE_BUF:  # other processes write there, too
                    self._write(some)
                    some = b""
                some += line
            if some:
                self._write(some)


def log(message: str) -> None:
    """A line for people, on stderr."""
    print(message, file=sys.stderr, flush=True)
