"""The Trusted Networks Configured Extension (RFC 5265 §3.4)."""

from __future__ import annotations

from collections.abc import Iterable

from testbed.mobileip.wire.authentication import MOBILE_HOME
from testbed.mobileip.wire.extension import Extension

TRUSTED_NETWORKS = 149
"""Type of the extension of registration replies; it may be skipped."""

_SIZE, _SUBTYPE = 2, 0


def trusted_networks_configured() -> Extension:
    """What a home agent that knows which networks are trusted adds to its replies."""
    return Extension(TRUSTED_NETWORKS, bytes((_SUBTYPE, 0)))


def is_trusted(extensions: Iterable[Extension]) -> bool:
    """Whether a reply has the extension, in what its Mobile-Home authentication covers.

    Of another length or sub-type it is not this extension, and skipped. What is reserved is ignored.
    """
    for extension in extensions:
        if extension.type == MOBILE_HOME:
            return False
        sound = len(extension.data) == _SIZE and extension.data[0] == _SUBTYPE
        if extension.type == TRUSTED_NETWORKS and sound:
            return True
    return False
