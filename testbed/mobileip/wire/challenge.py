"""Challenges, and what a foreign agent says of a reply (RFC 4721 §2, §4, RFC 4636 §3)."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from testbed.mobileip.wire.authentication import MOBILE_HOME
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import Extension

ADVERTISED = 24
"""Type of the extension of advertisements; its data is the challenge."""
CHALLENGE = 132
"""Type of the extension of requests and replies; its data is the challenge."""
FOREIGN_AGENT_ERROR = 45
"""Type of the Foreign Agent Error Extension, which may not be skipped."""

_ERROR = Struct("!BB")
_SUBTYPE = 0


def challenge(extensions: Iterable[Extension]) -> bytes | None:
    """The challenge in a request or reply, behind its Mobile-Home authentication (RFC 4721 §3.1, §3.4)."""
    passed = False
    for extension in extensions:
        if extension.type == MOBILE_HOME:
            passed = True
        elif extension.type == CHALLENGE and passed:
            return extension.data
    return None


def offered(extensions: Iterable[Extension]) -> bytes | None:
    """What a foreign agent's reply offers for the next request; it has removed the home agent's (§3.3)."""
    return next((each.data for each in reversed(tuple(extensions)) if each.type == CHALLENGE), None)


def foreign_agent_error(status: int) -> Extension:
    """What a foreign agent adds to a home agent's reply that it cannot go along with: a code of its own."""
    return Extension(FOREIGN_AGENT_ERROR, _ERROR.pack(_SUBTYPE, status))


def error_status(extensions: Iterable[Extension]) -> int:
    """The code that a foreign agent has added to a reply, 0 for none; raises WireError "length" or "type"."""
    for extension in extensions:
        if extension.type == FOREIGN_AGENT_ERROR:
            if len(extension.data) != _ERROR.size:
                raise WireError("length", f"foreign agent error extension of {len(extension.data)} bytes")
            subtype, status = _ERROR.unpack(extension.data)
            if subtype != _SUBTYPE:
                raise WireError("type", f"foreign agent error extension of sub-type {subtype}")
            return int(status)
    return 0
