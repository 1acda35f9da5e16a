"""The control socket (`testbed.mobileip.io.control`) of a program that runs on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from testbed.mobileip.io.control import Connection, ControlServer, RequestError
from testbed.mobileip.io.journal import Journal

Handler = Callable[[dict[str, Any], Connection], Awaitable[Mapping[str, Any]]]
"""Answers a request with the fields of its reply; raises RequestError."""


class _Watcher:
    def add(self, descriptor: int, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().add_reader(descriptor, callback)

    def remove(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)


def serve(path: str, journal: Journal, handler: Handler) -> ControlServer:
    """Open a control socket in the running event loop, until it is closed; raises NodeError."""
    under_way: set[asyncio.Task[None]] = set()

    async def carry_out(request: dict[str, Any], connection: Connection) -> None:
        try:
            connection.answer(await handler(request, connection))
        except RequestError as error:
            connection.refuse(error)
        except BaseException:
            connection.close()
            raise

    def begin(request: dict[str, Any], connection: Connection) -> None:
        task = asyncio.get_running_loop().create_task(carry_out(request, connection))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    return ControlServer(Path(path), _Watcher(), journal, begin)
