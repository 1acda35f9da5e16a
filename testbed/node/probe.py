"""A numbered UDP stream that is sent back: what was lost in which direction, and for how long nothing came.

    python3 -m testbed.node.probe reflect --port 5005
    python3 -m testbed.node.probe send --source 10.0.1.100 --to 10.0.4.10 --port 5005 --every 5

Both print JSON lines on stdout and end when their standard input does, or with a line on it: the sender
then waits for what is under way, and both print what they saw. All time stamps are nanoseconds of the
monotonic clock, which the nodes of a lab share.

    {"event": "ready", …}                                  it runs
    {"event": "sent", "rows": [[number, sent, error?], …]}        sender, at the end
    {"event": "returned", "rows": [[number, received], …]}        sender, at the end
    {"event": "reflected", "rows": [[number, received], …]}       reflector, at the end
"""

from __future__ import annotations

import argparse
import select
import socket
import struct
import time
from contextlib import suppress

from testbed.agreed import PROBE_MARKER, READY
from testbed.mobileip.io.journal import Journal

HEADER = struct.Struct("!4sQQ")
MAGIC = b"tbPR"
GRACE = 1.0
"""Seconds that the sender goes on at most after the request to stop."""
ROWS = 1000


def _report(journal: Journal, event: str, rows: list[list[int]]) -> None:
    """Long lists go out in several lines; an empty one in one, so that a reader knows it was there."""
    for start in range(0, max(len(rows), 1), ROWS):
        journal.tell(event, {"rows": rows[start : start + ROWS]})


def _told_to_stop(wait: float, sock: socket.socket) -> tuple[bool, bool]:
    """Wait for input; returns whether the socket has some, and whether standard input said stop."""
    readable, _, _ = select.select([0, sock.fileno()], [], [], max(wait, 0))
    return sock.fileno() in readable, 0 in readable


def reflect(port: int) -> None:
    """Send every probe packet back to where it came from, until asked to stop."""
    journal, rows = Journal("probe-reflector"), list[list[int]]()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", port))
        sock.setblocking(False)
        journal.tell(READY)
        stop = False
        while not stop:
            _, stop = _told_to_stop(60, sock)
            _drain(sock, rows, answer=True)
    _report(journal, "reflected", rows)


def _drain(sock: socket.socket, rows: list[list[int]], *, answer: bool) -> None:
    while True:
        try:
            data, peer = sock.recvfrom(2048)
        except BlockingIOError:
            return
        except OSError:
            continue  # an ICMP error about a packet sent before
        now = time.monotonic_ns()
        if len(data) < HEADER.size or data[:4] != MAGIC:
            continue
        rows.append([HEADER.unpack_from(data)[1], now])
        if answer:
            with suppress(OSError):  # no route back at the moment: lost, like any other packet
                sock.sendto(data, peer)


def send(source: str, to: str, port: int, every: float) -> None:
    """Send a packet every `every` seconds until asked to stop; count what comes back.

    Told so, it goes on until a packet sent since has come back, at most `GRACE` seconds: else the end of an
    outage that just ended would not be seen.
    """
    journal = Journal("probe")
    sent: list[list[int]] = []
    returned: list[list[int]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND: the address may be away between two links
        sock.bind((source, 0))
        sock.setblocking(False)
        journal.tell(READY)
        due = time.monotonic()
        end: float | None = None
        last = 0  # the first packet sent after the request to stop
        while True:
            now = time.monotonic()
            if now >= due:
                sent.append(_send_one(sock, (to, port), len(sent)))
                due += every
                if due < now:  # the machine was away: do not catch up in one burst
                    due = now + every
            wait = due - time.monotonic()
            if end is None:
                arrived, stop = _told_to_stop(wait, sock)
                if stop:
                    end, last = time.monotonic() + GRACE, len(sent)
            else:
                arrived = bool(select.select([sock.fileno()], [], [], max(wait, 0))[0])
            if arrived:
                _drain(sock, returned, answer=False)
            if end is not None and (time.monotonic() > end or (returned and returned[-1][0] >= last)):
                break
        _await_the_rest(sock, sent, returned, every)
    _report(journal, "sent", sent)
    _report(journal, "returned", returned)


def _await_the_rest(
    sock: socket.socket, sent: list[list[int]], returned: list[list[int]], every: float
) -> None:
    """Packets still under way come within a round trip: as long as the slowest of late, and a bit."""
    stamps = {row[0]: row[1] for row in sent}
    slowest = max((row[1] - stamps[row[0]] for row in returned[-20:]), default=0) / 1e9
    end = time.monotonic() + min(GRACE, slowest + 4 * every)
    while time.monotonic() < end:
        if select.select([sock.fileno()], [], [], every)[0]:
            _drain(sock, returned, answer=False)


def _send_one(sock: socket.socket, to: tuple[str, int], number: int) -> list[int]:
    now = time.monotonic_ns()
    try:
        sock.sendto(HEADER.pack(MAGIC, number, now) + PROBE_MARKER, to)
    except OSError as error:
        return [number, now, error.errno or -1]
    return [number, now]


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="testbed.node.probe")
    parser.add_argument("side", choices=["reflect", "send"])
    parser.add_argument("--port", type=int, default=5005)
    parser.add_argument("--source")
    parser.add_argument("--to")
    parser.add_argument("--every", type=float, default=5.0, help="milliseconds between packets")
    options = parser.parse_args(arguments)
    if options.side == "reflect":
        reflect(options.port)
    elif options.source and options.to:
        send(options.source, options.to, options.port, options.every / 1000)
    else:
        parser.error("send needs --source and --to")


if __name__ == "__main__":
    main()
