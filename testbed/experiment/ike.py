"""IKE and ESP as a capture shows them: which exchanges were begun, which security associations were used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

EXCHANGES: Final = {"IKE_SA_INIT": 34, "IKE_AUTH": 35, "CREATE_CHILD_SA": 36, "INFORMATIONAL": 37}

IKE_FILTER: Final = "udp port 500 or (udp port 4500 and udp[8:4] = 0)"
"""IKE, also on the port of NAT traversal, where four zero octets tell it from ESP (RFC 3948 §2.2)."""
ESP_FILTER: Final = "ip proto 50 or (udp port 4500 and udp[4:2] > 12 and udp[8:4] != 0)"
_RESPONSE: Final = 0x20  # flag R of RFC 7296 §3.1
_UDP, _ESP = 17, 50
_MARKER = bytes(4)


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
    for packet in packets:
        length = (packet[0] & 0x0F) * 4 if packet else 0
        datagram = packet[length:]
        if len(datagram) < 8 + 28 or packet[9] != _UDP:
            continue
        message = datagram[8:]
        if message[:4] == _MARKER and 4500 in (_port(datagram, 0), _port(datagram, 2)):
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
    for packet in packets:
        if len(packet) < 20:
            continue
        payload = packet[(packet[0] & 0x0F) * 4 :]
        if packet[9] == _UDP:
            payload = payload[8:]
        if len(payload) >= 8:
            found.add((IPv4Address(packet[16:20]), int.from_bytes(payload[:4], "big")))
    return found


def _port(datagram: bytes, offset: int) -> int:
    return int.from_bytes(datagram[offset : offset + 2], "big")
