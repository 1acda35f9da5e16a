"""IKE and ESP as a capture shows them: which exchanges were begun, which security associations were used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

EXCHANGES: Final = {"IKE_SA_INIT": 34, "IKE_AUTH": 35, "CREATE_CHILD_SA": 36, "INFORMATIONAL": 37}

IKE_FILTER: Final = "udp port 500 or udp port 4500 or ip proto 4"
"""IKE, also on the port of NAT traversal, bare or inside Mobile IP's tunnel."""
ESP_FILTER: Final = "ip proto 50 or udp port 4500 or ip proto 4"
_RESPONSE: Final = 0x20  # flag R of RFC 7296 §3.1
_IP_IN_IP, _UDP, _ESP = 4, 17, 50
_MARKER = bytes(4)
_FRAGMENT_OFFSET: Final = 0x1FFF


@dataclass(frozen=True, slots=True)
class Request:
    """An IKE request; its retransmissions are equal to it."""

    exchange: int
    initiator_spi: bytes
    number: int
    from_initiator: bool


def requests(packets: Iterable[bytes]) -> set[Request]:
    """The requests among IPv4 packets that hold IKE; a retransmission is the same request."""
    found = set()
    for _, protocol, payload in map(_innermost, packets):
        if protocol != _UDP or len(payload) < 8 + 28 or not {500, 4500} & _ports(payload):
            continue
        message = payload[8:]
        if 4500 in _ports(payload):
            # Four zero octets tell IKE from ESP (RFC 3948 §2.2).
            if message[:4] != _MARKER:
                continue
            message = message[4:]
        if len(message) < 28 or message[19] & _RESPONSE:
            continue
        found.add(
            Request(message[18], message[:8], int.from_bytes(message[20:24], "big"), bool(message[19] & 0x08))
        )
    return found


def associations(packets: Iterable[bytes]) -> set[tuple[IPv4Address, int]]:
    """The ESP security associations in use among IPv4 packets: destination and SPI (RFC 4301 §4.1)."""
    found = set()
    for destination, protocol, payload in map(_innermost, packets):
        if protocol == _UDP and len(payload) > 8 + 4 and 4500 in _ports(payload):
            payload = payload[8:]
        elif protocol != _ESP:
            continue
        if len(payload) >= 8 and payload[:4] != _MARKER:
            found.add((destination, int.from_bytes(payload[:4], "big")))
    return found


def _innermost(packet: bytes) -> tuple[IPv4Address, int, bytes]:
    """Destination, protocol and payload of an IPv4 packet, or of the one in its IP-in-IP (RFC 2003).

    A fragment other than the first has no headers but the outermost: it counts as nothing.
    """
    while len(packet) >= 20 and (header := (packet[0] & 0x0F) * 4) >= 20:
        if int.from_bytes(packet[6:8], "big") & _FRAGMENT_OFFSET:
            break
        if packet[9] != _IP_IN_IP:
            return IPv4Address(packet[16:20]), packet[9], packet[header:]
        packet = packet[header:]
    return IPv4Address(0), 0, b""


def _ports(datagram: bytes) -> set[int]:
    return {int.from_bytes(datagram[at : at + 2], "big") for at in (0, 2)}
