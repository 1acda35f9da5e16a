"""The events of a node: JSON lines on its standard output."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """Something that happened in a node."""

    name: str
    source: str  # "init" or a service
    time: float  # seconds since the epoch, by the engine's clock
    fields: dict[str, Any]  # the rest of the line, `monotonic` among it


def parse_event(text: str, time: float) -> NodeEvent | None:
    """Return the event of a line; None for a line that carries none."""
    if not text.startswith("{"):
        return None
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    name, source = fields.pop("event", None), fields.pop("source", None)
    if not isinstance(name, str) or not isinstance(source, str):
        return None
    return NodeEvent(name, source, time, fields)
