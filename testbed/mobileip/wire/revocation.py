"""Registration revocation: one extension and two messages (RFC 3543 §3.2 to §3.4)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from struct import Struct

from testbed.mobileip.wire.authentication import AUTHENTICATION_TYPES
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import Extension, decode_extensions, encode_extensions
from testbed.mobileip.wire.reader import unpack_fixed
from testbed.mobileip.wire.value import value

SUPPORT = 137
"""Type of the Revocation Support Extension."""
REVOCATION, ACKNOWLEDGMENT = 7, 15
"""Types of the messages."""
MESSAGES = (REVOCATION, ACKNOWLEDGMENT)

_SUPPORT = Struct("!HI")
_REVOCATION = Struct("!BBHIIII")
_ACKNOWLEDGMENT = Struct("!BBHII")
_HIGHEST, _SECOND = 0x8000, 0x4000
_HALF = 1 << 31
STAMPS = 1 << 32
"""How many values a timestamp has."""


def later(stamp: int, than: int) -> bool:
    """Whether one 32-bit timestamp is later than another, although they begin anew after `STAMPS`."""
    return 0 < (stamp - than) % STAMPS < _HALF


@value
class RevocationSupport:
    """The Revocation Support Extension (§3.2)."""

    timestamp: int
    """Of the sender's own clock; it orders registrations and revocations."""
    inform: bool = False
    """I: whether the home agent decides if the mobile node is to be informed of a revocation."""

    def encode(self) -> Extension:
        """As an extension."""
        return Extension(SUPPORT, _SUPPORT.pack(_HIGHEST * self.inform, self.timestamp))

    @classmethod
    def decode(cls, data: bytes) -> RevocationSupport:
        """From the data of an extension, which may be longer one day; raises WireError "truncated"."""
        if len(data) < _SUPPORT.size:
            raise WireError("truncated", f"revocation support extension of {len(data)} bytes")
        flags, timestamp = _SUPPORT.unpack_from(data)
        return cls(timestamp, bool(flags & _HIGHEST))


@value
class Revocation:
    """The Registration Revocation Message (§3.3)."""

    by_home_agent: bool
    """A: the direction, so that a message that comes back to its sender is known."""
    inform: bool
    home_address: IPv4Address
    home_domain: IPv4Address
    """The home agent of the binding."""
    foreign_domain: IPv4Address
    """The care-of address of the binding."""
    identifier: int
    """A timestamp of the sender's own clock."""
    extensions: tuple[Extension, ...] = ()

    def encode(self) -> bytes:
        """The UDP payload."""
        flags = _HIGHEST * self.by_home_agent | _SECOND * self.inform
        addresses = int(self.home_address), int(self.home_domain), int(self.foreign_domain)
        fixed = _REVOCATION.pack(REVOCATION, 0, flags, *addresses, self.identifier)
        return fixed + encode_extensions(self.extensions)

    @classmethod
    def decode(cls, payload: bytes) -> Revocation:
        """The whole message; raises WireError "truncated", "type" or "unknown-extension"."""
        _, flags, home_address, home_domain, foreign_domain, identifier = unpack_fixed(
            payload, _REVOCATION, REVOCATION, "a registration revocation"
        )
        fixed = cls(
            bool(flags & _HIGHEST),
            bool(flags & _SECOND),
            IPv4Address(home_address),
            IPv4Address(home_domain),
            IPv4Address(foreign_domain),
            identifier,
        )
        return replace(fixed, extensions=decode_extensions(payload, _REVOCATION.size, AUTHENTICATION_TYPES))


@value
class RevocationAcknowledgment:
    """The Registration Revocation Acknowledgment Message (§3.4)."""

    inform: bool
    """From a home agent: whether the mobile node is to be informed. From others: whether it is."""
    home_address: IPv4Address
    identifier: int
    """Of the revocation that is acknowledged."""
    extensions: tuple[Extension, ...] = ()

    def encode(self) -> bytes:
        """The UDP payload."""
        flags = _HIGHEST * self.inform
        fixed = _ACKNOWLEDGMENT.pack(ACKNOWLEDGMENT, 0, flags, int(self.home_address), self.identifier)
        return fixed + encode_extensions(self.extensions)

    @classmethod
    def decode(cls, payload: bytes) -> RevocationAcknowledgment:
        """The whole message; raises WireError "truncated", "type" or "unknown-extension"."""
        _, flags, home_address, identifier = unpack_fixed(
            payload, _ACKNOWLEDGMENT, ACKNOWLEDGMENT, "a revocation acknowledgment"
        )
        fixed = cls(bool(flags & _HIGHEST), IPv4Address(home_address), identifier)
        extensions = decode_extensions(payload, _ACKNOWLEDGMENT.size, AUTHENTICATION_TYPES)
        return replace(fixed, extensions=extensions)
