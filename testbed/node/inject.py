"""Packets that a peer would send, made up: ESP with a random SPI, or IP-in-IP around a UDP packet.

    python3 -m testbed.node.inject esp 203.0.113.2 203.0.113.10 --count 3
    python3 -m testbed.node.inject ipip 10.0.1.2 203.0.113.10 --inner 10.0.4.10 10.0.1.100

Sent through a raw socket, so that the node's own routes and rules decide where they go.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct

ESP, IPIP, UDP = 50, 4, 17
MARKER = b"testbed made this up: readable by anybody on this link"


def esp(sequence: int) -> bytes:
    """A packet with a random SPI that belongs to nobody, and random octets for a payload (RFC 4303 §2)."""
    spi = int.from_bytes(os.urandom(4), "big") | 0x80000000
    return struct.pack("!II", spi, sequence) + os.urandom(64)


def udp_packet(source: str, destination: str) -> bytes:
    """A whole IPv4 packet with a UDP datagram to the discard port, checksum of the header included."""
    datagram = struct.pack("!HHHH", 9, 9, 8 + len(MARKER), 0) + MARKER
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 0, 0, 64, UDP, 0) + addresses
    total = sum(struct.unpack("!10H", header))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return header[:10] + struct.pack("!H", checksum) + header[12:] + datagram


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="testbed.node.inject")
    parser.add_argument("protocol", choices=["esp", "ipip"])
    parser.add_argument("source")
    parser.add_argument("destination")
    parser.add_argument("--inner", nargs=2, metavar=("SOURCE", "DESTINATION"))
    parser.add_argument("--count", type=int, default=3)
    options = parser.parse_args(arguments)
    if (options.protocol == "ipip") != (options.inner is not None):
        parser.error("ipip, and only ipip, needs --inner")
    number = ESP if options.protocol == "esp" else IPIP
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, number) as sock:
        sock.bind((options.source, 0))
        for sequence in range(1, options.count + 1):
            packet = esp(sequence) if number == ESP else udp_packet(*options.inner)
            sock.sendto(packet, (options.destination, 0))


if __name__ == "__main__":
    main()
