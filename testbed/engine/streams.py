"""The engine's long-lived answers: a container's log, and a command running inside a container.

Both are HTTP answers whose body goes on and on, in frames of 8 bytes header (stream, length) and data. They
are read through the response's own buffer: reading the bare socket, as the SDK does, can lose what arrived
together with the headers.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from http.client import HTTPException
from types import TracebackType
from typing import Any, Final, Self

import requests

from testbed.engine.api import EngineError, Line, Stream

_HEADER: Final = struct.Struct(">BxxxL")
_STREAMS: Final[dict[int, Stream]] = {0: "stdout", 1: "stdout", 2: "stderr"}
_TLS_SILENCE: Final = 7 * 86400.0  # seconds that a stream may be silent
_EXIT_CODE_WITHIN: Final = 10.0  # seconds the engine may take to notice that a command has ended


class _Body:
    """The body of a response: read by one thread, closed by any."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response
        raw_response: Any = response.raw
        self._file = raw_response._fp  # http.client.HTTPResponse: knows about chunks, and read1()
        buffer = self._file.fp
        raw = getattr(buffer, "raw", buffer)
        self._socket: Any = getattr(raw, "_sock", raw)
        if isinstance(self._socket, ssl.SSLSocket):
            # Without a timeout Python holds the connection's lock while it waits, and nobody could send.
            self._socket.settimeout(_TLS_SILENCE)
        self._reading = False

    def frames(self) -> Iterator[tuple[Stream, bytes]]:
        """Yield framed data until the body ends or is closed."""
        with self._until_closed():
            while len(header := self._file.read(_HEADER.size)) == _HEADER.size:
                stream, length = _HEADER.unpack(header)
                data = self._file.read(length)
                if len(data) < length:
                    return
                yield _STREAMS.get(stream, "stderr"), data

    def pieces(self) -> Iterator[bytes]:
        """Yield unframed data as it comes until the body ends or is closed."""
        with self._until_closed():
            while data := self._file.read1(65536):
                yield data

    def send(self, data: bytes) -> None:
        """Write to the other end. A command that has ended reads nothing any more: that is no error."""
        with contextlib.suppress(OSError):
            self._socket.sendall(data)

    def end_input(self) -> None:
        """Half-close."""
        self._shut(socket.SHUT_WR)

    def close(self) -> None:
        """Wake up whoever reads; the connection goes when the reader has left."""
        self._shut(socket.SHUT_RDWR)
        if not self._reading:
            self._response.close()

    def _shut(self, how: int) -> None:
        # TLS, too, is ended below it: `SSLSocket.shutdown` would leave nothing that can be read.
        with contextlib.suppress(OSError, TypeError):
            socket.socket.shutdown(self._socket, how)

    @contextlib.contextmanager
    def _until_closed(self) -> Iterator[None]:
        self._reading = True
        try:
            yield
        except (OSError, ValueError, HTTPException):
            pass  # closed under the reader, or the engine went away: either way nothing more comes
        finally:
            self._reading = False
            self._response.close()


class DockerLog:
    """`LogStream` over the engine's log call with timestamps."""

    def __init__(self, response: requests.Response) -> None:
        self._body = _Body(response)

    def __iter__(self) -> Iterator[Line]:
        # The engine cuts long lines into messages of 16 KiB, each with a stamp; the last ends in a newline.
        begun: dict[Stream, tuple[float, bytes]] = {}
        for stream, message in self._body.frames():
            stamp, _, data = message.partition(b" ")
            at, start = begun.pop(stream, (_seconds(stamp), b""))
            if data.endswith(b"\n"):
                yield Line(stream, at, (start + data[:-1]).decode(errors="replace"))
            else:
                begun[stream] = (at, start + data)
        for stream, (at, start) in begun.items():
            yield Line(stream, at, start.decode(errors="replace"))

    def close(self) -> None:
        """End the stream."""
        self._body.close()


class DockerExec:
    """`ExecSession` over the connection that the engine gives to a command."""

    def __init__(
        self,
        response: requests.Response,
        *,
        tty: bool,
        inspect: Callable[[], dict[str, Any]],
        resize: Callable[[int, int], None],
    ) -> None:
        self._body = _Body(response)
        self._tty = tty
        self._inspect = inspect
        self._resize = resize

    def __iter__(self) -> Iterator[tuple[Stream, bytes]]:
        if not self._tty:
            return self._body.frames()
        return (("stdout", data) for data in self._body.pieces())

    def send(self, data: bytes) -> None:
        """Write to the command's standard input."""
        self._body.send(data)

    def end_input(self) -> None:
        """End the command's standard input."""
        self._body.end_input()

    def resize(self, rows: int, columns: int) -> None:
        """Tell the command's terminal its size."""
        if self._tty:
            self._resize(rows, columns)

    def exit_code(self) -> int:
        """Return the exit code. The output may end a moment before the engine knows it."""
        deadline = time.monotonic() + _EXIT_CODE_WITHIN
        while (code := self._inspect()["ExitCode"]) is None:
            if time.monotonic() > deadline:
                raise EngineError("the command's output has ended, but the engine says that it still runs")
            time.sleep(0.01)
        return int(code)

    def close(self) -> None:
        """Disconnect; the command itself goes on if it does not mind."""
        self._body.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _seconds(stamp: bytes) -> float:
    return datetime.fromisoformat(stamp.decode("ascii")).timestamp()
