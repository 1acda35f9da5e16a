"""The algorithms that compute authenticators (RFC 5944 §5.1): which of them, a security association says."""

from __future__ import annotations

import hashlib
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

AUTHENTICATOR_SIZE = 16
"""Bytes of an authenticator, whichever algorithm makes it."""


class Algorithm(Enum):
    """An authentication algorithm, by its name in configuration."""

    HMAC_MD5 = "hmac-md5"  # RFC 2104: the default, which every node has
    KEYED_MD5 = "keyed-md5"  # "prefix+suffix", for peers of RFC 2002's time
    HMAC_SHA_256 = "hmac-sha-256"  # HMAC-SHA-256-128 of RFC 4868

    @property
    def key_size(self) -> int | None:
        """The only size of a key in bytes (RFC 4868 §2.1.1); None where any will do."""
        return 32 if self is Algorithm.HMAC_SHA_256 else None

    def authenticator(self, key: bytes, data: bytes) -> bytes:
        """The `AUTHENTICATOR_SIZE` bytes that prove `data` to those with the same key."""
        if self is Algorithm.KEYED_MD5:
            return hashlib.md5(key + data + key, usedforsecurity=False).digest()
        inner, outer = _keyed("md5" if self is Algorithm.HMAC_MD5 else "sha256", key)
        inner, outer = inner.copy(), outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        return outer.digest()[:AUTHENTICATOR_SIZE]  # RFC 4868 §2.3


@lru_cache(maxsize=0x4000)
def _keyed(name: str, key: bytes) -> tuple[_Hash, _Hash]:
    """The hashes of HMAC once they have taken the key: most of the work for a short message (RFC 2104 §4)."""
    inner = hashlib.new(name, usedforsecurity=False)
    outer = inner.copy()
    block = (key if len(key) <= inner.block_size else hashlib.new(name, key).digest()).ljust(
        inner.block_size, b"\0"
    )
    inner.update(bytes(each ^ 0x36 for each in block))
    outer.update(bytes(each ^ 0x5C for each in block))
    return inner, outer
