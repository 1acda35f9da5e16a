"""IKE and ESP as a capture shows them: which exchanges were begun, which security associations were used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from testbed.packet.decode import decode
from testbed.packet.layers import IKE_EXCHANGES, Esp, Ike, Ipv4
from testbed.packet.pcap import Frame

EXCHANGES: Final = {name: number for number, name in IKE_EXCHANGES.items()}

_TUNNELS = "ip proto 4 or ip proto 47 or ip proto 55 or udp port 434"
IKE_FILTER: Final = f"udp port 500 or udp port 4500 or {_TUNNELS}"
"""IKE, also on the port of NAT traversal, bare or inside Mobile IP's tunnel."""
ESP_FILTER: Final = f"ip proto 50 or udp port 4500 or {_TUNNELS}"


@dataclass(frozen=True, slots=True)
class Request:
    """An IKE request; its retransmissions are equal to it."""

    exchange: int
    initiator_spi: int
    number: int
    from_initiator: bool


def requests(frames: Iterable[Frame]) -> set[Request]:
    """Return the IKE requests among frames; a retransmission is the same request (RFC 7296 §2.1)."""
    messages = (message for frame in frames for message in decode(frame.data, frame.linktype).all(Ike))
    return {
        Request(one.exchange, one.initiator_spi, one.message_id, one.from_initiator)
        for one in messages
        if not one.response
    }


def associations(frames: Iterable[Frame]) -> set[tuple[IPv4Address, int]]:
    """Return the ESP security associations in use among frames: destination and SPI (RFC 4301 §4.1).

    Inside a tunnel of Mobile IP the destination is that of the innermost header.
    """
    found = set()
    for frame in frames:
        packet = decode(frame.data, frame.linktype)
        esp = packet.first(Esp)
        if esp and esp.spi:  # 0 is never on a wire (RFC 4303 §2.1)
            found.add((packet.all(Ipv4)[-1].destination, esp.spi))
    return found
