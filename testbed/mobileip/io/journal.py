"""Events as JSON lines: on stdout, and to subscribers."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

Listener = Callable[[bytes], None]


def encode(message: object) -> bytes:
    """One JSON line."""
    return json.dumps(message).encode() + b"\n"


class Journal:
    """Reports events; `source` names the daemon."""

    def __init__(self, source: str, output: int = 1) -> None:
        self.source = source
        self._output = output
        self._listeners: dict[Listener, None] = {}

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
        head = {"event": event, "source": self.source, "monotonic": round(time.monotonic(), 6)}
        line = encode({**head, **(fields or {}), **head})
        with suppress(OSError):  # nobody reads stdout any more
            os.write(self._output, line)
        for listener in {**self._listeners, **dict.fromkeys(also)}:
            listener(line)


def log(message: str) -> None:
    """A line for people, on stderr."""
    print(message, file=sys.stderr, flush=True)
