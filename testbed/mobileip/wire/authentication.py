"""The authentication extensions (RFC 5944 §3.5.1 to §3.5.4): their fields, not their arithmetic."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import GENERALIZED_AUTHENTICATION, Extension
from testbed.mobileip.wire.value import value

MOBILE_HOME = 32
MOBILE_FOREIGN = 33
FOREIGN_HOME = 34
AUTHENTICATION_TYPES = frozenset((MOBILE_HOME, MOBILE_FOREIGN, FOREIGN_HOME))
_ALL_TYPES = AUTHENTICATION_TYPES | {GENERALIZED_AUTHENTICATION}
MOBILE_AAA = 1
"""Subtype of the Generalized Authentication Extension by which a mobile node proves itself to AAA (§6)."""
CHAP_SPI = 2
"""The reserved SPI of RFC 4721 §8: MD5, as RADIUS servers compute it for CHAP."""

_HEADER = Struct("!BBI")
_LONG_HEADER = Struct("!BBHI")
_SPI = Struct("!I")


@value
class Authentication:
    """One of the three; the authenticator covers all that precedes it in the UDP payload."""

    type: int
    spi: int
    authenticator: bytes

    @classmethod
    def from_extension(cls, extension: Extension) -> Authentication:
        """Read the SPI and the authenticator; raises WireError("truncated") without an SPI."""
        return cls(extension.type, spi_in(extension), extension.data[_SPI.size :])


def spi_in(extension: Extension) -> int:
    """The SPI of an authentication extension; raises WireError("truncated") without."""
    if len(extension.data) < _SPI.size:
        raise WireError("truncated", f"authentication extension {extension.type} without SPI")
    return int.from_bytes(extension.data[: _SPI.size], "big")


def header(kind: int, spi: int, authenticator_length: int) -> bytes:
    """Type, Length and SPI: the part of the extension that its own authenticator covers."""
    return _HEADER.pack(kind, _SPI.size + authenticator_length, spi)


def long_header(subtype: int, spi: int, authenticator_length: int) -> bytes:
    """As `header`, of the Generalized Authentication Extension (RFC 4721 §5)."""
    return _LONG_HEADER.pack(GENERALIZED_AUTHENTICATION, subtype, _SPI.size + authenticator_length, spi)


def protected(payload: bytes, extension: Extension) -> bytes:
    """The bytes of `payload` which the authenticator of `extension` covers."""
    long = extension.type == GENERALIZED_AUTHENTICATION
    return payload[: extension.offset + (_LONG_HEADER if long else _HEADER).size]


def in_order(extensions: Iterable[Extension]) -> bool:
    """Whether no other authentication precedes the Mobile-Home Authentication Extension (§3.2)."""
    kinds = [extension.type for extension in extensions if extension.type in _ALL_TYPES]
    return MOBILE_HOME not in kinds[1:] or kinds[0] == MOBILE_HOME
