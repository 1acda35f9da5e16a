"""The Mobile IP daemon of this node, reached over its control socket; it may start later and start again."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from testbed.agreed import ROAM
from testbed.mobileip.io.journal import Journal, encode

RETRY = 0.02
"""Seconds between attempts to reach a daemon that is not there."""
ANSWER = 2.0
"""Seconds a request may take, the wait for a daemon that is starting included."""

Message = dict[str, object]


class MobileIpError(Exception):
    """The daemon is not there, or refuses a request."""


class MobileIp:
    """Sends requests to the daemon and hands its events to those who listen.

    Events and replies come on two connections; the fields of an event, not
    its order, distinguish it from those of an earlier attachment.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._listeners: set[Callable[[Message], None]] = set()
        self._connected = asyncio.Event()
        self._requests: asyncio.StreamWriter | None = None
        self._awaited: deque[asyncio.Future[Message]] = deque()

    @property
    def connected(self) -> bool:
        """Whether the daemon is there."""
        return self._connected.is_set()

    @contextmanager
    def listening(self, listener: Callable[[Message], None]) -> Iterator[None]:
        """Call `listener` with every event."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    async def request(self, op: str, **fields: str | bool) -> Message:
        """Carry out one request and return the reply; raises MobileIpError."""
        try:
            async with asyncio.timeout(ANSWER):
                await self._connected.wait()
                assert self._requests is not None
                reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
                self._awaited.append(reply)
                self._requests.write(encode({"op": op, **fields}))
                answer = await reply
        except TimeoutError:
            problem = "does not answer" if self.connected else "is not there"
            raise MobileIpError(f"the Mobile IP daemon {problem} ({op})") from None
        if not answer.get("ok"):
            raise MobileIpError(f"{op}: {answer.get('error')}")
        return answer

    async def run(self, returned: Callable[[], None]) -> None:
        """Stay connected, for ever; `returned` is called when the daemon is there again after it was lost."""
        lost = False
        while True:
            try:
                await self._converse(returned if lost else lambda: None)
                lost = True
            except OSError:
                pass  # not there yet
            await asyncio.sleep(RETRY)

    async def _converse(self, connected: Callable[[], None]) -> None:
        reader, subscription = await asyncio.open_unix_connection(self._path)
        replies, requests = await asyncio.open_unix_connection(self._path)
        subscription.write(encode({"op": "subscribe"}))
        tasks = [
            asyncio.create_task(self._read_events(reader)),
            asyncio.create_task(self._read_replies(replies)),
        ]
        self._requests = requests
        self._connected.set()
        connected()
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connected.clear()
            self._requests = None
            for task in tasks:
                task.cancel()
            for writer in (subscription, requests):
                writer.close()
            while self._awaited:
                reply = self._awaited.popleft()
                if not reply.done():
                    reply.set_exception(MobileIpError("the Mobile IP daemon went away"))

    async def _read_events(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if "event" in message:
                for listener in tuple(self._listeners):
                    listener(message)

    async def _read_replies(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            reply = self._awaited.popleft()
            if not reply.done():
                reply.set_result(json.loads(line))


class NoMobileIp(MobileIp):
    """In the place of the daemon where a VPN follows moves by itself: never registered, and says so."""

    def __init__(self) -> None:
        super().__init__("")
        self._journal = Journal(ROAM)

    async def request(self, op: str, **fields: str | bool) -> Message:
        """Nothing is to be done; that it is detached is reported as the daemon would."""
        if op == "detach":
            self._journal.tell("detached")
        return {"ok": True}

    async def run(self, returned: Callable[[], None]) -> None:
        """Nothing restarts."""
        await asyncio.Event().wait()
