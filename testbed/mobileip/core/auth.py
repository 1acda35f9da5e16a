"""Authenticators of registration messages (RFC 5944 §3.5.1, §5.1)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from types import MappingProxyType

Algorithm = Callable[[bytes, bytes], bytes]
"""Computes an authenticator from a key and the protected bytes."""


def hmac_md5(key: bytes, data: bytes) -> bytes:
    """HMAC-MD5 (RFC 2104), the algorithm everybody has (RFC 5944 §5.1)."""
    return hmac.digest(key, data, "md5")


def keyed_md5(key: bytes, data: bytes) -> bytes:
    """MD5 in "prefix+suffix" mode, for peers of RFC 2002's time (RFC 5944 §5.1)."""
    return hashlib.md5(key + data + key, usedforsecurity=False).digest()


ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType({"hmac-md5": hmac_md5, "keyed-md5": keyed_md5})
