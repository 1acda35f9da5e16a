"""The control socket of a daemon: a stream socket in the file system, JSON lines, one reply to each request.

A request is `{"op": NAME, "id"?, …}`, its reply `{"ok": true, "id"?, …}` or `{"ok": false, "error": …}`.
Events may follow on the connections that asked for them.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Protocol

from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.journal import Journal, encode

LONGEST_LINE = 0x10000


class RequestError(Exception):
    """A request that cannot be fulfilled; the message goes into the reply."""


def string(request: Mapping[str, Any], key: str) -> str:
    """What a request has at `key`; raises RequestError."""
    value = request.get(key)
    if not isinstance(value, str):
        raise RequestError(f"{key!r} must be a string")
    return value


def address(request: Mapping[str, Any], key: str) -> IPv4Address:
    """The same, an address; raises RequestError, and ValueError for what is none."""
    return IPv4Address(string(request, key))


def boolean(request: Mapping[str, Any], key: str) -> bool | None:
    """The same, true or false; None where there is nothing. Raises RequestError."""
    value = request.get(key)
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"{key!r} must be true or false")
    return value


class Watcher(Protocol):
    """Calls back when a descriptor is readable, for as long as it is (`Loop`)."""

    def add(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `descriptor` is readable or has an error."""

    def remove(self, descriptor: int) -> None:
        """Forget `descriptor`."""


class ControlServer:
    """Answers requests by `handler`, which returns the fields of the reply or raises RequestError.

    A handler that returns None answers later, by the connection; until then it gets nothing more from there.
    `{"op": "subscribe"}` is answered here: from then on the connection also carries every event of `journal`.
    """

    def __init__(self, path: Path, watcher: Watcher, journal: Journal, handler: Handler) -> None:
        """Open the socket, over what a killed predecessor left; raises NodeError."""
        self.watcher = watcher
        self.journal = journal
        self._path = path
        self._handler = handler
        self._connections: set[Connection] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            self._socket.bind(str(path))
            path.chmod(0o600)
            self._socket.listen(16)
        except OSError as error:
            self._socket.close()
            raise NodeError(f"control socket {path}: {error.strerror or error}") from error
        watcher.add(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        with suppress(OSError):
            accepted, _ = self._socket.accept()
            accepted.setblocking(False)
            self._connections.add(Connection(accepted, self))

    def handle(self, request: dict[str, Any], connection: Connection) -> Mapping[str, Any] | None:
        """The fields of the reply to a request, None if they come later; raises RequestError."""
        if request["op"] != "subscribe":
            return self._handler(request, connection)
        self.journal.subscribe(connection.send)
        return {}

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self.journal.unsubscribe(connection.send)
        self._connections.discard(connection)

    def leave(self) -> None:
        """In a process that was forked: have none of the sockets. The watcher is the other process's."""
        for connection in self._connections:
            connection.leave()
        self._socket.close()

    def close(self) -> None:
        """Close every connection and remove the socket."""
        for connection in list(self._connections):
            connection.close()
        self.watcher.remove(self._socket.fileno())
        self._socket.close()
        self._path.unlink(missing_ok=True)


class ControlLink:
    """Answers the requests of one client, over a socket that is connected already: see `ControlServer`.

    Where that socket blocks, this process waits for a client who is slow to read.
    """

    def __init__(
        self, stream: socket.socket, watcher: Watcher, handler: Handler, ended: Callable[[], None]
    ) -> None:
        """`ended` is called when the client has gone."""
        self.watcher = watcher
        self.handle = handler
        self._ended = ended
        self._connection = Connection(stream, self)

    def forget(self, _connection: Connection) -> None:
        """The connection is closed."""
        self._ended()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Connection:
    """One client of a control socket."""

    def __init__(self, stream: socket.socket, server: ControlServer | ControlLink) -> None:
        self._stream = stream
        self._server = server
        self._input = b""
        self._lines: deque[bytes] = deque()
        self._owed: dict[str, Any] | None = None
        """The beginning of the reply to the request that is being carried out."""
        self._holds = 0
        self._reading = self._ended = False
        self.open = True
        """Whether the client may still be there."""
        self._read(True)

    def _read(self, on: bool) -> None:
        if on and not self._reading:
            self._server.watcher.add(self._stream.fileno(), self._readable)
        elif self._reading and not on:
            self._server.watcher.remove(self._stream.fileno())
        self._reading = on

    def _readable(self) -> None:
        try:
            received = self._stream.recv(LONGEST_LINE)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        self._ended = not received
        *lines, self._input = (self._input + received).split(b"\n")
        self._lines.extend(line for line in lines if line.strip())
        self._proceed()
        if len(self._input) > LONGEST_LINE:
            self.close()

    def _proceed(self) -> None:
        """Take the requests that have come, one after the other; then read on, or close."""
        while self.open and self._owed is None and self._lines:
            self._take(self._lines.popleft())
        if not self.open:
            return
        self._read(self._owed is None and not self._ended)
        if self._ended and self._owed is None and not self._holds:
            self.close()

    def _take(self, line: bytes) -> None:
        self._owed = {"ok": True}
        try:
            try:
                request = json.loads(line)
            except ValueError as error:
                raise RequestError(f"not JSON: {error}") from error
            if not isinstance(request, dict) or not isinstance(request.get("op"), str):
                raise RequestError('expected {"op": NAME, …}')
            if "id" in request:
                self._owed["id"] = request["id"]
            fields = self._server.handle(request, self)
        except RequestError as error:
            self._reply({"ok": False, "error": str(error)})
        else:
            if fields is not None:
                self._reply(fields)

    def _reply(self, fields: Mapping[str, Any]) -> None:
        reply, self._owed = {**(self._owed or {}), **fields}, None
        self.send(encode(reply))

    def answer(self, fields: Mapping[str, Any]) -> None:
        """Send the reply that the handler owes, and go on."""
        self._reply(fields)
        self._proceed()

    def refuse(self, error: RequestError) -> None:
        """Send a refusal as the reply that the handler owes, and go on."""
        self.answer({"ok": False, "error": str(error)})

    def hold(self) -> None:
        """Keep the connection open beyond the client's last word, as events are owed."""
        self._holds += 1

    def release(self) -> None:
        """Undo a `hold`."""
        self._holds -= 1
        self._proceed()

    def send(self, line: bytes) -> None:
        """Send a line; who does not read what he asked for is cut off, so that nobody else has to wait."""
        try:
            whole = self.open and self._stream.send(line) == len(line)
        except OSError:
            whole = False
        if not whole:
            self.close()

    def leave(self) -> None:
        """In a process that was forked: have no part in it."""
        self._stream.close()

    def close(self) -> None:
        """Close it, at once."""
        if self.open:
            self._read(False)
            self.open = False
            self._server.forget(self)
            self._stream.close()


Handler = Callable[[dict[str, Any], Connection], Mapping[str, Any] | None]
