"""The time of day of identifications (RFC 5944 §5.7.1)."""

from __future__ import annotations

import time


def unix_time(now: float) -> float:
    """The time of day at the monotonic time `now`."""
    return time.time() - time.monotonic() + now
