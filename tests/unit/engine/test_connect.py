"""Reaching an engine of another machine, which may be gone."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from testbed.engine import connect
from testbed.engine.api import EngineError
from testbed.engine.place import named_place

PATIENCE = 0.3  # seconds


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where connections are neither taken nor refused, as where a machine is off: its queue is full."""
    monkeypatch.setattr(connect, "_CONNECT_TIMEOUT", PATIENCE)
    with ExitStack() as ending:
        listener = ending.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = ending.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def test_a_machine_that_is_off_is_not_waited_for_as_long_as_for_an_answer(silent: str) -> None:
    began = time.monotonic()
    with pytest.raises(
        EngineError, match=f"no container engine answers at {silent.replace('tcp', '.*')}"
    ) as caught:
        connect.connect(named_place(silent, f"--engine b={silent}"))
    assert PATIENCE <= time.monotonic() - began < connect._CALL_TIMEOUT / 4
    assert caught.value.hint == f"--engine b={silent} says so"


def test_connections_that_are_silent_are_tried() -> None:
    pools = connect._Adapter().poolmanager
    assert (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1) in pools.connection_pool_kw["socket_options"]
