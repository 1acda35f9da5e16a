"""The Registration Request (RFC 5944 §3.3)."""

from __future__ import annotations

from enum import IntFlag
from ipaddress import IPv4Address
from struct import Struct

from testbed.mobileip.wire.authentication import AUTHENTICATION_TYPES
from testbed.mobileip.wire.extension import (
    GENERALIZED_AUTHENTICATION,
    Extension,
    decode_extensions,
    encode_extensions,
)
from testbed.mobileip.wire.identification import LOW
from testbed.mobileip.wire.reader import address, unpack_fixed
from testbed.mobileip.wire.value import value

TYPE = 1
_FIXED = Struct("!BBHIIIQ")
_KNOWN = AUTHENTICATION_TYPES | {GENERALIZED_AUTHENTICATION}


class RequestFlag(IntFlag):
    """The byte after the Type.

    `x` is the one bit nobody has assigned: a request that sets it has "non-zero bits in reserved fields"
    (§3.7.2.1, §3.8.2.3). `r` had a meaning once and is ignored.
    """

    SIMULTANEOUS = 0x80
    BROADCAST = 0x40
    DECAPSULATION = 0x20
    MINIMAL = 0x10
    GRE = 0x08
    R = 0x04
    REVERSE_TUNNEL = 0x02
    X = 0x01

    # Whether a bit is set in a plain byte is asked a dozen times a request; a flag of flags nobody needs.
    __and__ = int.__and__  # type: ignore[assignment]
    __rand__ = int.__rand__  # type: ignore[assignment]


@value
class RegistrationRequest:
    """A request; `flags` is the plain byte, to be tested against `RequestFlag`."""

    flags: int
    lifetime: int
    home_address: IPv4Address
    home_agent: IPv4Address
    care_of_address: IPv4Address
    identification: int
    extensions: tuple[Extension, ...] = ()

    SIZE = _FIXED.size  # of the fixed portion

    @property
    def low_identification(self) -> int:
        """The half of the identification by which a reply is matched."""
        return self.identification & LOW

    def encode(self) -> bytes:
        """The UDP payload."""
        return _FIXED.pack(
            TYPE,
            self.flags,
            self.lifetime,
            int(self.home_address),
            int(self.home_agent),
            int(self.care_of_address),
            self.identification,
        ) + encode_extensions(self.extensions)

    @classmethod
    def decode_fixed(cls, payload: bytes) -> RegistrationRequest:
        """The fixed portion alone, whatever follows it; raises WireError "truncated" or "type"."""
        return cls(*_fixed(payload))

    @classmethod
    def decode(cls, payload: bytes) -> RegistrationRequest:
        """The whole message; raises WireError as `decode_fixed` and `decode_extensions` do."""
        fixed = _fixed(payload)
        return cls(*fixed, decode_extensions(payload, _FIXED.size, _KNOWN))


def identification_of(payload: bytes) -> int:
    """The Identification field of a request, whatever else it holds; 0 of one that ends before it."""
    return int.from_bytes(payload[16:24], "big")


def _fixed(payload: bytes) -> tuple[int, int, IPv4Address, IPv4Address, IPv4Address, int]:
    flags, lifetime, home_address, home_agent, care_of, identification = unpack_fixed(
        payload, _FIXED, TYPE, "a registration request"
    )
    return flags, lifetime, address(home_address), address(home_agent), address(care_of), identification
