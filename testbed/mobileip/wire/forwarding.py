"""What a node that forwards a datagram does to its header (RFC 5944 §4.2.2, RFC 2003 §3.1)."""

from __future__ import annotations

from testbed.mobileip.wire.checksum import internet_checksum, valid
from testbed.mobileip.wire.encapsulation import header_size
from testbed.mobileip.wire.error import WireError

_TTL, _CHECKSUM, _DESTINATION = 8, 10, 16
_MULTICAST = 224
"""The first byte of a destination from which on it is no single host."""


def forwarded(datagram: bytes) -> bytes:
    """`datagram` with its TTL decremented; raises WireError "malformed" for a wrong checksum, and "ttl".

    One to a group or to everybody keeps its TTL: it goes to the link that its sender would be on.
    """
    size = header_size(datagram)
    if not valid(datagram[:size]):
        raise WireError("malformed", "IP header checksum wrong")
    if datagram[_DESTINATION] >= _MULTICAST:
        return datagram
    if datagram[_TTL] <= 1:
        raise WireError("ttl")
    header = bytearray(datagram[:size])
    header[_TTL] -= 1
    header[_CHECKSUM : _CHECKSUM + 2] = bytes(2)
    header[_CHECKSUM : _CHECKSUM + 2] = internet_checksum(bytes(header)).to_bytes(2, "big")
    return bytes(header) + datagram[size:]
