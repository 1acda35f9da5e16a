"""Events as JSON lines: on stdout, and to whoever subscribed."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

Value = str | int | float | bool | None


class Journal:
    """Tells events; `source` names the daemon."""

    def __init__(self, source: str, output: int = 1) -> None:
        self.source = source
        self._output = output
        self._listeners: list[Callable[[bytes], None]] = []

    def subscribe(self, listener: Callable[[bytes], None]) -> None:
        """Hand every line from now on to `listener` too."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[bytes], None]) -> None:
        """Hand `listener` no more."""
        with suppress(ValueError):
            self._listeners.remove(listener)

    def tell(self, event: str, fields: Mapping[str, Value] | None = None) -> None:
        """Tell an event that happened now (seconds of the monotonic clock)."""
        head = {"event": event, "source": self.source, "monotonic": round(time.monotonic(), 6)}
        line = json.dumps({**head, **(fields or {}), **head}).encode() + b"\n"
        with suppress(OSError):  # nobody reads stdout any more
            os.write(self._output, line)
        for listener in list(self._listeners):
            listener(line)


def log(message: str) -> None:
    """A line for people, on stderr."""
    print(message, file=sys.stderr, flush=True)
