"""The numbers of Mobile IPv4 by the documents that assign them, and what a message uses beyond them.

After the IANA registries "Mobile IPv4 Message Types" and "Extensions appearing in Mobile IP control
messages", as far as the documents assign them that this testbed knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from testbed.packet.contents import contents
from testbed.packet.layers import MipUdp, MobileIp, Other
from testbed.packet.pcap import Frame

MESSAGES: Final[dict[str, frozenset[int]]] = {
    "RFC 5944": frozenset((1, 3)),
    "RFC 3519": frozenset((4,)),
    "RFC 3543": frozenset((7, 15)),
}
EXTENSIONS: Final[dict[str, frozenset[int]]] = {
    "RFC 5944": frozenset((0, 32, 33, 34)),
    "RFC 2794": frozenset((131,)),
    "RFC 3024": frozenset((130,)),
    "RFC 3519": frozenset((44, 144)),
    "RFC 3543": frozenset((137,)),
    "RFC 4636": frozenset((45,)),
    "RFC 4721": frozenset((24, 36, 132)),
    "RFC 5265": frozenset((149,)),
}
_HEADERS: Final = {1: 24, 3: 20}
"""Message type → octets before its extensions (RFC 5944 §3.3, §3.4)."""
_LONG: Final = frozenset((36,))  # type, subtype and a length of 16 bits (RFC 5944 §1.10)
_LENGTH16: Final = Struct("!H")


def beyond(documents: Iterable[str], frames: Iterable[Frame]) -> tuple[int, dict[str, None]]:
    """How many messages of Mobile IP were looked at, and what of them these documents do not assign.

    What cannot be read to its end counts as well.
    """
    named = list(documents)
    messages = frozenset().union(*(MESSAGES.get(one, frozenset()) for one in named))
    extensions = frozenset().union(*(EXTENSIONS.get(one, frozenset()) for one in named))
    looked = 0
    found: dict[str, None] = {}
    for frame in frames:
        for layer, data in contents(frame, (MobileIp, MipUdp, Other)):
            if isinstance(layer, Other) and not layer.what.startswith("Mobile IP"):
                continue
            looked += 1
            if data[0] not in messages:
                found[f"message type {data[0]}"] = None
            if data[0] in _HEADERS:
                found |= dict.fromkeys(_extensions(data[_HEADERS[data[0]] :], extensions))
    return looked, found


def _extensions(data: bytes, known: frozenset[int]) -> Iterable[str]:
    """What is wrong with the extensions of a message, one after the other (RFC 5944 §1.8 to §1.10)."""
    at = 0
    while at < len(data):
        kind = data[at]
        if kind not in known:
            yield f"extension {kind}"
        if kind == 0:  # one octet of padding
            at += 1
            continue
        long = kind in _LONG
        head = 4 if long else 2
        if at + head > len(data):
            yield f"extension {kind} without a length"
            return
        length = _LENGTH16.unpack_from(data, at + 2)[0] if long else data[at + 1]
        at += head + length
        if at > len(data):
            yield f"extension {kind} that ends beyond the message"
