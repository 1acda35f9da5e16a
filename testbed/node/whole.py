"""Whole IPv4 packets for a raw socket: as they were captured or made up, with any source."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address

from testbed.mobileip.wire.checksum import internet_checksum
from testbed.mobileip.wire.ipv4 import HEADER_SIZE, IP_IN_IP, UDP, udp_checksum

TCP = 6
_SOURCE, _DESTINATION = slice(12, 16), slice(16, 20)
_OFFSET = 0x1FFF
_BIND_TO_DEVICE = 25  # SO_BINDTODEVICE of <asm/socket.h>


def mended(packet: bytes, source: IPv4Address | None = None, destination: IPv4Address | None = None) -> bytes:
    """Return a packet with other addresses, and with every checksum that can be computed right.

    A capture at the sender has packets whose checksums of UDP and TCP the kernel leaves to the interface.
    What IP in IP carries is mended too, with the addresses it has. Padding after the packet is cut off.

    Raises ValueError for what is no IPv4 packet.
    """
    size = (packet[0] & 0xF) * 4 if packet else 0
    length = int.from_bytes(packet[2:4])
    if packet[:1] < b"\x45" or packet[0] >> 4 != 4 or not HEADER_SIZE <= size <= length <= len(packet):
        raise ValueError("no whole IPv4 packet")
    header, body = bytearray(packet[:size]), bytearray(packet[size:length])
    if source is not None:
        header[_SOURCE] = source.packed
    if destination is not None:
        header[_DESTINATION] = destination.packed
    header[10:12] = bytes(2)
    header[10:12] = internet_checksum(bytes(header)).to_bytes(2)
    fragment = int.from_bytes(header[6:8]) & (_OFFSET | 0x2000)
    if fragment:
        return bytes(header + body)
    if header[9] == UDP and len(body) >= 8 and body[6:8] != b"\0\0":  # 0: the sender computes none
        body[6:8] = bytes(2)
        ends = IPv4Address(bytes(header[_SOURCE])), IPv4Address(bytes(header[_DESTINATION]))
        body[6:8] = udp_checksum(*ends, bytes(body)).to_bytes(2)
    elif header[9] == TCP and len(body) >= 20:
        body[16:18] = bytes(2)
        pseudo = bytes(header[12:20]) + bytes([0, TCP]) + len(body).to_bytes(2)
        body[16:18] = internet_checksum(pseudo + bytes(body)).to_bytes(2)
    elif header[9] == IP_IN_IP:
        body = bytearray(mended(bytes(body)))
    return bytes(header + body)


def send(packets: Iterable[bytes], device: str | None = None) -> int:
    """Send packets as they are, by the node's routes or out of one interface; returns how many.

    Raises OSError.
    """
    number = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        if device is not None:
            sock.setsockopt(socket.SOL_SOCKET, _BIND_TO_DEVICE, device.encode() + b"\0")
        for packet in packets:
            sock.sendto(packet, (str(IPv4Address(packet[_DESTINATION])), 0))
            number += 1
    return number
