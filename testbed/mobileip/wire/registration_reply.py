"""The Registration Reply (RFC 5944 §3.4)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from struct import Struct

from testbed.mobileip.wire import udp_tunnel
from testbed.mobileip.wire.authentication import AUTHENTICATION_TYPES
from testbed.mobileip.wire.challenge import FOREIGN_AGENT_ERROR
from testbed.mobileip.wire.extension import Extension, decode_extensions, encode_extensions
from testbed.mobileip.wire.identification import LOW
from testbed.mobileip.wire.reader import unpack_fixed
from testbed.mobileip.wire.value import value

TYPE = 3
_FIXED = Struct("!BBHIIQ")
_KNOWN = AUTHENTICATION_TYPES | {udp_tunnel.REPLY, FOREIGN_AGENT_ERROR}


@value
class RegistrationReply:
    """A reply; `code` is a plain number, as nobody promises that it is one of `Code`."""

    code: int
    lifetime: int
    home_address: IPv4Address
    home_agent: IPv4Address
    identification: int
    extensions: tuple[Extension, ...] = ()

    SIZE = _FIXED.size  # of the fixed portion

    @property
    def low_identification(self) -> int:
        """The half of the identification by which the reply is matched."""
        return self.identification & LOW

    def encode(self) -> bytes:
        """The UDP payload."""
        return _FIXED.pack(
            TYPE,
            self.code,
            self.lifetime,
            int(self.home_address),
            int(self.home_agent),
            self.identification,
        ) + encode_extensions(self.extensions)

    @classmethod
    def decode_fixed(cls, payload: bytes) -> RegistrationReply:
        """The fixed portion alone, whatever follows it; raises WireError "truncated" or "type"."""
        code, lifetime, home_address, home_agent, identification = unpack_fixed(
            payload, _FIXED, TYPE, "a registration reply"
        )
        return cls(code, lifetime, IPv4Address(home_address), IPv4Address(home_agent), identification)

    @classmethod
    def decode(cls, payload: bytes) -> RegistrationReply:
        """The whole message; raises WireError as `decode_fixed` and `decode_extensions` do."""
        fixed = cls.decode_fixed(payload)
        return replace(fixed, extensions=decode_extensions(payload, _FIXED.size, _KNOWN))
