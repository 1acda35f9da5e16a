"""The control socket of a node program: a Unix stream socket that speaks JSON lines.

A request `{"op": NAME, "id"?, …}` is answered by one line, `{"ok": true, "id"?, …}` or
`{"ok": false, "error": …}`; events may follow on the connections that asked for them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from testbed.node.events import encode

LINE_LIMIT = 65536
"""Bytes a request may have; a longer one ends the connection."""
BACKLOG = 1 << 20
"""Bytes of events a client may leave unread before it is cut off."""


class RequestError(Exception):
    """A request that cannot be carried out; the message is the answer's `error`."""


class Client:
    """One connection to the control socket."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.following = asyncio.Event()
        self.following.set()
        """Cleared while events are still owed: the connection then outlives the client's end of file."""

    def send(self, message: dict[str, object]) -> None:
        """Send one line; a client that does not read is cut off rather than waited for."""
        transport = self._writer.transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size() > BACKLOG:
            transport.abort()
            return
        self._writer.write(encode(message))

    @property
    def gone(self) -> bool:
        """Whether the connection is closed."""
        return self._writer.transport.is_closing()


Handler = Callable[[dict[str, object], Client], Awaitable[dict[str, object]]]
"""Answers a request with the fields of its reply; raises RequestError."""


class ControlServer:
    """Listens on a Unix socket and hands each request to one handler."""

    def __init__(self, path: str, handler: Handler) -> None:
        self._path = Path(path)
        self._handler = handler
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Bind (over what a killed predecessor left) and listen."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_LIMIT)
        self._path.chmod(0o600)

    def stop(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(writer)
        try:
            while line := await reader.readline():
                client.send(await self._answer(line, client))
            await client.following.wait()
            await writer.drain()
        except (OSError, ValueError):
            pass  # the client went away, or sent a line beyond the limit
        finally:
            writer.close()

    async def _answer(self, line: bytes, client: Client) -> dict[str, object]:
        identity: dict[str, object] = {}
        try:
            request = json.loads(line)
            if not isinstance(request, dict) or not isinstance(request.get("op"), str):
                raise RequestError('expected {"op": NAME, …}')
            if "id" in request:
                identity["id"] = request["id"]
            return {"ok": True, **identity, **await self._handler(request, client)}
        except ValueError as error:
            return {"ok": False, "error": f"not JSON: {error}"}
        except RequestError as error:
            return {"ok": False, **identity, "error": str(error)}
