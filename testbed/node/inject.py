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
from ipaddress import IPv4Address

from testbed.agreed import READABLE
from testbed.mobileip.wire.ipv4 import udp

ESP, IPIP = 50, 4
DISCARD = 9
MARKER = f"testbed made this up: {READABLE}".encode()


def esp(sequence: int) -> bytes:
    """A packet with a random SPI that belongs to nobody, and random octets for a payload (RFC 4303 §2)."""
    spi = int.from_bytes(os.urandom(4), "big") | 0x80000000
    return struct.pack("!II", spi, sequence) + os.urandom(64)


def udp_packet(source: str, destination: str) -> bytes:
    """A whole IPv4 packet with a UDP datagram to the discard port."""
    return udp(MARKER, (IPv4Address(source), DISCARD), (IPv4Address(destination), DISCARD))


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
