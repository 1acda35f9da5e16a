"""Events of a node program: JSON lines on stdout, each stamped with the monotonic clock all nodes share."""

from __future__ import annotations

import json
import os
import time

Fields = str | int | float | bool | None | dict[str, float | None]


def event(name: str, source: str, **fields: Fields) -> dict[str, object]:
    """An event as the object that is printed and sent: name, source, time stamp in seconds, fields."""
    return {"event": name, "source": source, "monotonic": round(time.monotonic(), 6), **fields}


def encode(message: object) -> bytes:
    """One JSON line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def emit(message: dict[str, object]) -> None:
    """Print an event on stdout, at once and as one write."""
    os.write(1, encode(message))
