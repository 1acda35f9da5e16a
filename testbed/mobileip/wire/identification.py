"""The Identification field as a timestamp of the Network Time Protocol (RFC 5944 §5.7.1).

The field's upper half counts seconds since 1900 and wraps in 2036; here a time is a whole number of 2**-32 s
since 1900 that does not wrap, and `unwrap` finds the one a field means.
"""

from __future__ import annotations

from math import floor

UNIX_EPOCH = 2_208_988_800
"""Seconds from 1900 to 1970."""
SECOND = 1 << 32
FIELD = 1 << 64
_EPOCH = UNIX_EPOCH << 32
_HALF_FIELD = 1 << 63
LOW = SECOND - 1
"""Mask of the half of the field that a reply repeats."""


def from_unix(seconds: float) -> int:
    """The NTP time of a Unix time."""
    return _EPOCH + floor(seconds * SECOND)  # a power of 2: nothing is lost


def unwrap(field: int, near: int) -> int:
    """The NTP time closest to `near` whose 64-bit field is `field`."""
    return near + (field - near + _HALF_FIELD) % FIELD - _HALF_FIELD
