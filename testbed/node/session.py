"""A real TCP session with continuous data against an echo service: alive while what is written comes back.

    python3 -m testbed.node.session --source 10.0.1.100 --to 10.0.4.10

Writes a numbered line every 20 ms and reads the echo. Commands come on standard input, a line each:

    check SECONDS    has data that is written from now on come back within so many seconds?
    stop             close (so does the end of the input)

On stdout JSON lines with seconds of the monotonic clock:

    {"event": "connected", "monotonic": …}        the first line has come back
    {"event": "check", "alive": true, "after": …, "sent": …, "echoed": …}
    {"event": "closed", "reason": …, "sent": …, "echoed": …, "gaps": [[from, to], …]}     the last line

`gaps` are the times of more than half a second in which nothing came back.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import time

from testbed.agreed import READABLE
from testbed.mobileip.io.journal import Journal

EVERY = 0.02
GAP = 0.5
ECHO_PORT = 7
MARKER = f"testbed session: {READABLE}"
"""What every line carries, to be looked for in captures."""


class Session:
    """One session from its connection to its end."""

    def __init__(self, source: str, to: str, port: int, connect: float) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setsockopt(
            socket.IPPROTO_IP, 15, 1
        )  # IP_FREEBIND: the address may be away between two links
        self._sock.bind((source, 0))
        self._sock.settimeout(connect)
        self._to = (to, port)
        self._journal = Journal("session")
        self._number = 0
        self._pending = b""
        self._sent = 0
        self._echoed = 0
        self._last_echo = 0.0
        self._gaps: list[list[float]] = []
        self._connected = False
        self._check: tuple[float, float, int] | None = None  # began, deadline, bytes to see come back
        self._commands = b""

    def run(self) -> None:
        """Connect and talk until asked to stop or the session breaks."""
        reason = "stopped"
        try:
            self._sock.connect(self._to)
            self._sock.setblocking(False)
            self._last_echo = time.monotonic()
            self._talk()
        except OSError as error:
            reason = error.strerror or str(error)
            if self._check or self._connected:
                self._answer_checks_until_told(reason)
        self._say("closed", reason=reason)
        self._sock.close()

    def _say(self, event: str, **fields: object) -> None:
        counted = {"sent": self._sent, "echoed": self._echoed, "gaps": self._gaps}
        self._journal.tell(event, {**fields, **counted})

    def _talk(self) -> None:
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= due:
                due = now + EVERY
                self._write()
            if self._check and now >= self._check[1]:
                self._report(alive=False)
            wait = max(due - time.monotonic(), 0)
            readable, _, _ = select.select([0, self._sock.fileno()], [], [], wait)
            if self._sock.fileno() in readable:
                self._read()
            if 0 in readable and self._command():
                return

    def _write(self) -> None:
        if not self._pending:
            self._number += 1
            self._pending = f"{self._number} {MARKER}\n".encode()
        try:
            count = self._sock.send(self._pending)
        except BlockingIOError:
            return
        self._sent += count
        self._pending = self._pending[count:]

    def _read(self) -> None:
        data = self._sock.recv(65536)
        if not data:
            raise ConnectionResetError(0, "closed by the correspondent node")
        now = time.monotonic()
        if now - self._last_echo > GAP:
            self._gaps.append([self._last_echo, now])
        self._last_echo = now
        self._echoed += len(data)
        if not self._connected:
            self._connected = True
            self._journal.tell("connected")
        if self._check and self._echoed > self._check[2]:
            self._report(alive=True)

    def _command(self) -> bool:
        """Take what standard input says; true: stop."""
        data = os.read(0, 4096)
        if not data:
            return True
        *lines, self._commands = (self._commands + data).split(b"\n")
        for line in lines:
            word, _, rest = line.partition(b" ")
            if word == b"stop":
                return True
            if word == b"check":
                now = time.monotonic()
                self._check = (now, now + float(rest), self._sent + len(self._pending))
        return False

    def _report(self, *, alive: bool, reason: str = "") -> None:
        if self._check:
            after = time.monotonic() - self._check[0]
            self._say("check", alive=alive, after=after, reason=reason)
            self._check = None

    def _answer_checks_until_told(self, reason: str) -> None:
        """The session is broken for good: say so to whoever asks."""
        self._report(alive=False, reason=reason)
        while not self._command():
            self._report(alive=False, reason=reason)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="testbed.node.session")
    parser.add_argument("--source", required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--port", type=int, default=ECHO_PORT)
    parser.add_argument("--connect", type=float, default=4.0, help="seconds to wait for the connection")
    options = parser.parse_args(arguments)
    Session(options.source, options.to, options.port, options.connect).run()


if __name__ == "__main__":
    main()
