"""The first data packet of a hand-off: ICMP echo from the home address until one is answered."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address

from testbed.mobileip.wire.checksum import internet_checksum

ECHO_REPLY, ECHO_REQUEST = 0, 8
FIRST_INTERVAL, INTERVAL = 0.005, 0.020
"""Seconds to the second request, and between all later ones."""
_ICMP_FILTER = 1
_SOL_RAW = 255


async def first_reply(source: IPv4Address, destination: IPv4Address) -> None:
    """Ask `destination` from `source` until it answers."""
    identifier, sequence, pause = os.getpid() & 0xFFFF, 0, FIRST_INTERVAL
    answered = asyncio.Event()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP) as icmp:
        icmp.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~(1 << ECHO_REPLY) & 0xFFFFFFFF))

        def receive() -> None:
            with suppress(BlockingIOError):
                while True:
                    packet, (sender, _) = icmp.recvfrom(2048)
                    if sender == str(destination) and is_reply(packet, identifier):
                        answered.set()

        loop.add_reader(icmp.fileno(), receive)
        try:
            while True:
                # The address may be on its way to another interface, the route about to come.
                with suppress(OSError):
                    if sequence == 0 or icmp.getsockname()[0] != str(source):
                        icmp.bind((str(source), 0))
                    sequence += 1
                    icmp.sendto(request(identifier, sequence), (str(destination), 0))
                with suppress(TimeoutError):
                    await asyncio.wait_for(answered.wait(), pause)
                    return
                pause = INTERVAL
        finally:
            loop.remove_reader(icmp.fileno())


def request(identifier: int, sequence: int) -> bytes:
    """An echo request of 56 bytes of data, as `ping` sends."""
    message = struct.pack("!BBHHH56x", ECHO_REQUEST, 0, 0, identifier, sequence & 0xFFFF)
    return message[:2] + internet_checksum(message).to_bytes(2) + message[4:]


def is_reply(packet: bytes, identifier: int) -> bool:
    """Whether an IPv4 packet holds an echo reply to one of ours."""
    offset = (packet[0] & 0xF) * 4
    return (
        len(packet) >= offset + 8
        and packet[offset] == ECHO_REPLY
        and (packet[offset + 4 : offset + 6] == identifier.to_bytes(2))
    )
