"""Extensions in Type-Length-Value format (RFC 5944 §1.8, §1.9), and the one-byte padding (§2.1.3)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import field
from struct import Struct

from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.value import value

PADDING = 0
GENERALIZED_AUTHENTICATION = 36
"""The one type in the Long Extension Format (RFC 5944 §1.10), with a subtype and a length of two bytes."""
FIRST_SKIPPABLE = 128
ENCAPSULATING_DELIVERY = 130
"""Encapsulating Delivery Style Extension (RFC 3024 §3.3); carries no data."""

_LONG = Struct("!BBH")


@value
class Extension:
    """One extension; `offset` is where its Type stands in the message it was read from."""

    type: int
    data: bytes = b""
    offset: int = field(default=0, compare=False)
    subtype: int = 0
    """Of the Long Extension Format alone."""

    def encode(self) -> bytes:
        """Type, Length and Data; the padding is its Type alone."""
        if self.type == PADDING:
            return b"\0"
        if self.type == GENERALIZED_AUTHENTICATION:
            return _LONG.pack(self.type, self.subtype, len(self.data)) + self.data
        return bytes((self.type, len(self.data))) + self.data

    @property
    def end(self) -> int:
        """Where the byte after this extension stands in the message it was read from."""
        if self.type == PADDING:
            return self.offset + 1
        return self.offset + (4 if self.type == GENERALIZED_AUTHENTICATION else 2) + len(self.data)


def decode_extensions(payload: bytes, offset: int, known: Collection[int]) -> tuple[Extension, ...]:
    """Read the extensions of `payload` from `offset` on.

    Types of 128 and above need not be known and are returned all the same, for the reader to skip. Raises
    WireError "unknown-extension" for a type below that is neither known nor padding: then the whole message
    has to be discarded silently; "truncated" where the last one is longer than the message.
    """
    extensions = []
    end = len(payload)
    while offset < end:
        kind = payload[offset]
        if kind == PADDING:
            extensions.append(Extension(PADDING, b"", offset))
            offset += 1
            continue
        long = kind == GENERALIZED_AUTHENTICATION
        start = offset + (_LONG.size if long else 2)
        if start > end:
            raise WireError("truncated", f"extension {kind} at {offset} has no length")
        subtype, length = _LONG.unpack_from(payload, offset)[1:] if long else (0, payload[offset + 1])
        stop = start + length
        if kind < FIRST_SKIPPABLE and kind not in known:
            raise WireError("unknown-extension", f"type {kind} at {offset}")
        if stop > end:
            raise WireError(
                "truncated", f"extension {kind} at {offset} ends {stop - end} bytes beyond the message"
            )
        extensions.append(Extension(kind, payload[start:stop], offset, subtype))
        offset = stop
    return tuple(extensions)


def encode_extensions(extensions: Iterable[Extension]) -> bytes:
    """One after the other."""
    return b"".join([extension.encode() for extension in extensions])
