"""The Agent Solicitation, an ICMP Router Solicitation (RFC 5944 §2.2, RFC 1256 §3)."""

from __future__ import annotations

from testbed.mobileip.wire import checksum
from testbed.mobileip.wire.error import WireError

TYPE = 10
_SIZE = 8


def encode() -> bytes:
    """The ICMP message."""
    message = bytes((TYPE, 0, 0, 0, 0, 0, 0, 0))
    return message[:2] + checksum.internet_checksum(message).to_bytes(2, "big") + message[4:]


def check(payload: bytes) -> None:
    """Raise WireError "truncated", "type" or "checksum" unless it is a valid solicitation (RFC 1256 §4.3)."""
    if len(payload) < _SIZE:
        raise WireError("truncated", f"a solicitation of {len(payload)} bytes")
    if payload[0] != TYPE or payload[1] != 0:
        raise WireError("type", f"ICMP type {payload[0]} code {payload[1]} is not a solicitation")
    if not checksum.valid(payload):
        raise WireError("checksum")
