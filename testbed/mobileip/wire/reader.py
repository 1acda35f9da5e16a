"""A reader that cannot run over the end of its buffer."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address
from struct import Struct
from typing import Any

from testbed.mobileip.wire.error import WireError


class Address(IPv4Address):
    """An IPv4 address that computes its hash and its text once; tables and messages ask for them often."""

    __slots__ = ("_hash", "_text")

    def __init__(self, address: int) -> None:
        super().__init__(address)
        self._hash = super().__hash__()
        self._text = super().__str__()

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return self._text


address: Callable[[int], IPv4Address] = lru_cache(maxsize=0x8000)(Address)
"""The address that a field holds; the same object for the same address, as far as memory serves."""


def parsed_address(text: str) -> IPv4Address:
    """The address that a text holds, the same object as `address` gives; raises ValueError."""
    return address(int(IPv4Address(text)))


def unpack_fixed(payload: bytes, fixed: Struct, kind: int, what: str) -> list[Any]:
    """The fields after the Type of a message's fixed portion; raises WireError "truncated" or "type"."""
    if len(payload) < fixed.size:
        raise WireError("truncated", f"{what} of {len(payload)} bytes")
    found, *fields = fixed.unpack_from(payload)
    if found != kind:
        raise WireError("type", f"{found} is not {what}")
    return fields


class Reader:
    """Reads from `data` on; raises WireError("truncated") where bytes are missing."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self.data) - self.position

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self.position + count
        if end > len(self.data):
            raise WireError("truncated", f"{count} bytes wanted at {self.position}, {self.remaining} left")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def unpack(self, struct: Struct) -> tuple[Any, ...]:
        """The next fields, as `struct` describes them."""
        if struct.size > self.remaining:
            raise WireError(
                "truncated", f"{struct.size} bytes wanted at {self.position}, {self.remaining} left"
            )
        fields = struct.unpack_from(self.data, self.position)
        self.position += struct.size
        return fields
