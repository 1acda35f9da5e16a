"""The relay of our own: packets make a detour through a TUN device and this process, which holds them.

A rule sends what comes in from the hub network to the device `relay0`; the process writes it back into the
same device when it is due, and the main table sends it on.  The TTL the detour costs is given back, so that
the hub is one hop with either backend.

The device ends with the process.  Where the rule leads then is closed (`gate`), so that no packet crosses the
hub undelayed while the relay is dead.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import time
from contextlib import suppress
from pathlib import Path

from testbed.agreed import HUB_TABLE, RELAY_DEVICE, Impairment
from testbed.node.relay.link import Link
from testbed.node.relay.spawn import run

BURST = 64
"""Packets read per wake-up before those due are sent."""
EARLY = 0.000_02
"""Seconds a packet may be early: spares a wake-up for the next of a train."""

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000


class TunRelay:
    """Holds the packets that cross the hub by `interface`."""

    name = "relay"
    detour = True

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._link = Link(Impairment())
        self._fd = -1
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._packets = self._bytes = 0

    async def open(self) -> None:
        """Create the device and the route to it; the rule that leads there is the gate's."""
        self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self._fd, TUNSETIFF, struct.pack("16sH22x", RELAY_DEVICE.encode(), IFF_TUN | IFF_NO_PI))
        mtu = Path(f"/sys/class/net/{self._interface}/mtu").read_text().strip()
        self._size = int(mtu) + 64
        await run(
            "ip", "-batch", "-",
            stdin=f"link set {RELAY_DEVICE} mtu {mtu} txqueuelen 10000 addrgenmode none up\n"
            f"route replace default dev {RELAY_DEVICE} table {HUB_TABLE}\n",
        )  # fmt: skip
        # Timers of a process may be 50 µs late by default; ours are what is measured.
        with suppress(OSError):
            Path("/proc/self/timerslack_ns").write_text("1")

    async def apply(self, impairment: Impairment) -> None:
        """Hold packets so from now on; those already held keep the time they were given."""
        self._link.impairment = impairment
        # No packet is read before it is known what to do with it.
        asyncio.get_running_loop().add_reader(self._fd, self._receive)

    async def counters(self) -> dict[str, int]:
        """Packets and bytes sent on, lost, overflowed, and held at this moment."""
        link = self._link
        return {
            "packets": self._packets, "bytes": self._bytes,
            "lost": link.lost, "overflowed": link.overflowed, "held": len(link),
        }  # fmt: skip

    def _receive(self) -> None:
        fd, size, submit, clock = self._fd, self._size, self._link.submit, time.monotonic
        with suppress(BlockingIOError):
            for _ in range(BURST):
                packet = os.read(fd, size)
                if packet[0] >> 4 == 4:
                    submit(packet, clock())
        self._send_due()

    def _send_due(self) -> None:
        for packet in self._link.due(time.monotonic() + EARLY):
            # A queue of the kernel that is full drops the packet, like any other.
            with suppress(OSError):
                self._bytes += os.write(self._fd, give_hop_back(packet))
                self._packets += 1
        self._schedule()

    def _schedule(self) -> None:
        deadline = self._link.deadline()
        timer = self._timer
        if timer is not None and not timer.cancelled():
            if timer.when() == deadline:
                return
            timer.cancel()
        self._timer = None
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._send_due)

    async def close(self) -> None:
        """Take the device away: packets still held are lost, and none crosses until a relay starts."""
        if self._timer is not None:
            self._timer.cancel()
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def give_hop_back(packet: bytes) -> bytes:
    """The IPv4 packet with its TTL raised by one and the header checksum adjusted (RFC 1624)."""
    changed = bytearray(packet)
    changed[8] += 1
    checksum = (changed[10] << 8 | changed[11]) - 0x0100
    if checksum < 0:
        checksum += 0xFFFF
    changed[10], changed[11] = checksum >> 8, checksum & 0xFF
    return bytes(changed)
