"""The control socket: a stream socket in the file system, JSON lines, one reply to each request."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.journal import Journal
from testbed.mobileip.io.loop import Loop

Handler = Callable[[dict[str, Any]], dict[str, Any]]
LONGEST_LINE = 0x10000


class RequestError(Exception):
    """A request that cannot be fulfilled; the message goes into the reply."""


class ControlServer:
    """Answers requests by `handler`, which returns the fields of the reply or raises RequestError.

    `{"op": "subscribe"}` is answered here: from then on the connection also carries every event.
    """

    def __init__(self, path: Path, loop: Loop, journal: Journal, handler: Handler) -> None:
        self._path = path
        self._loop = loop
        self._journal = journal
        self._handler = handler
        self._connections: set[_Connection] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # a killed predecessor's
            self._socket.bind(str(path))
            path.chmod(0o600)
            self._socket.listen(16)
        except OSError as error:
            self._socket.close()
            raise NodeError(f"control socket {path}: {error.strerror or error}") from error
        loop.add(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        with suppress(OSError):
            accepted, _ = self._socket.accept()
            accepted.setblocking(False)
            self._connections.add(_Connection(accepted, self))

    def answer(self, connection: _Connection, line: bytes) -> bytes:
        """The reply to one line."""
        reply: dict[str, Any] = {"ok": True}
        try:
            try:
                request = json.loads(line)
            except ValueError as error:
                raise RequestError(f"not JSON: {error}") from error
            if not isinstance(request, dict):
                raise RequestError("a request is a JSON object")
            if "id" in request:
                reply["id"] = request["id"]
            if request.get("op") == "subscribe":
                self._journal.subscribe(connection.send)
            else:
                reply.update(self._handler(request))
        except RequestError as error:
            reply.update(ok=False, error=str(error))
        return json.dumps(reply).encode() + b"\n"

    def opened(self, descriptor: int, callback: Callable[[], None]) -> None:
        """A connection is there."""
        self._loop.add(descriptor, callback)

    def closed(self, connection: _Connection, descriptor: int) -> None:
        """A connection is about to be closed."""
        self._loop.remove(descriptor)
        self._journal.unsubscribe(connection.send)
        self._connections.discard(connection)

    def close(self) -> None:
        """Close every connection and remove the socket."""
        for connection in list(self._connections):
            connection.close()
        self._loop.remove(self._socket.fileno())
        self._socket.close()
        self._path.unlink(missing_ok=True)


class _Connection:
    def __init__(self, stream: socket.socket, server: ControlServer) -> None:
        self._stream = stream
        self._server = server
        self._input = b""
        self._open = True
        server.opened(stream.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            received = self._stream.recv(LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        *lines, self._input = (self._input + received).split(b"\n")
        for line in lines:
            if line.strip() and self._open:
                self.send(self._server.answer(self, line))
        if not received or len(self._input) > LONGEST_LINE:
            self.close()

    def send(self, line: bytes) -> None:
        """Send a line; who does not read what he asked for is cut off, so that nobody else has to wait."""
        try:
            whole = self._open and self._stream.send(line) == len(line)
        except OSError:
            whole = False
        if not whole:
            self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._server.closed(self, self._stream.fileno())
            self._stream.close()
