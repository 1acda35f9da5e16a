"""ARP messages by which a node poses as another (RFC 826): the lies of an attacker on a link."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network

IPV4, ARP = 0x0800, 0x0806
"""EtherTypes."""
LINK = struct.Struct("!6s6sH")
"""Destination, source and EtherType."""
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_REQUEST, _REPLY = 1, 2


def gratuitous(address: IPv4Address, link: bytes, receiver: bytes, sender: bytes) -> bytes:
    """A frame to `receiver` alone: `address` is at the link address `link` now (RFC 5227 §3).

    A reply about itself: Linux believes it at once, even if others have answered just now.
    """
    own = address.packed
    return LINK.pack(receiver, sender, ARP) + _ARP.pack(1, IPV4, 6, 4, _REPLY, link, own, link, own)


def answer(frame: bytes, link: bytes, owned: IPv4Network) -> bytes | None:
    """The answer, from `link`, to a request for any address in `owned`; None for all other frames."""
    if len(frame) < LINK.size + _ARP.size:
        return None
    kind = LINK.unpack_from(frame)[2]
    *_, operation, asker, asker_address, _, wanted = _ARP.unpack_from(frame, LINK.size)
    if (kind, operation) != (ARP, _REQUEST) or asker == link or asker_address == wanted:
        return None
    if IPv4Address(wanted) not in owned:
        return None
    body = _ARP.pack(1, IPV4, 6, 4, _REPLY, link, wanted, asker, asker_address)
    return LINK.pack(asker, link, ARP) + body
