"""The Internet checksum (RFC 1071), as ICMP (RFC 792) and the IP header carry it."""

from __future__ import annotations


def internet_checksum(data: bytes) -> int:
    """The 16-bit one's complement of the one's complement sum; 0 over data that holds its right checksum."""
    if len(data) % 2:
        data += b"\0"
    # As 2**16 is 1 modulo 0xffff, the whole number's remainder is that of the sum of its words.
    total = int.from_bytes(data, "big")
    return 0xFFFF - (total % 0xFFFF or 0xFFFF) if total else 0xFFFF


def valid(data: bytes) -> bool:
    """Whether `data`, checksum included, adds up."""
    return internet_checksum(data) == 0
