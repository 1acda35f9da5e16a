"""What the daemon asks of the tunnel process, at a socket that both ends know the closing of."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

SIZE = 0x10000
"""The largest message."""
Obey = Callable[[dict[str, Any], dict[str, Any]], None]
"""Carries out a request, and fills in the answer; raises OSError."""


class Requests:
    """Messages `{"requests": […], "answer": true}`; an answer is a list, too, with an `error` where one is.

    The daemon does not wait for what needs no answer, as nothing can go wrong with it. Where something does
    all the same, the process ends by that error, and the daemon starts another one.
    """

    def __init__(self, control: socket.socket, obey: Obey) -> None:
        control.setblocking(False)
        self._control = control
        self._obey = obey
        self._obeying = False

    def fileno(self) -> int:
        """The descriptor that is readable when there is a message."""
        return self._control.fileno()

    def take(self) -> bool:
        """Carry out a message if there is one; False when the daemon has closed the socket."""
        message = self._next()
        return message is None or (bool(message) and self._carry_out(message))

    def catch_up(self, buffer: memoryview) -> bool:
        """Carry out all messages that wait; returns whether there was one.

        To be called for a datagram of an unknown tunnel: a mobile node that the daemon has answered may be
        here before the request for its tunnel is taken. `buffer` has the datagram, and keeps it.
        """
        if self._obeying:
            return False
        kept, taken = b"", False
        while message := self._next():
            kept, taken = kept or bytes(buffer), True
            self._carry_out(message)
        if taken:
            buffer[:] = kept
        return taken

    def _next(self) -> bytes | None:
        """The next message: None where none waits, and empty where the daemon has closed the socket."""
        try:
            return self._control.recv(SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _carry_out(self, message: bytes) -> bool:
        """Returns whether the daemon is still there."""
        content, answers = json.loads(message), []
        self._obeying = True
        for request in content["requests"]:
            answer: dict[str, Any] = {}
            try:
                self._obey(request, answer)
            except OSError as error:
                if not content["answer"]:
                    raise
                answer["error"] = str(error)
            answers.append(answer)
        self._obeying = False
        if content["answer"]:
            try:
                self._control.send(json.dumps(answers).encode())
            except (BrokenPipeError, ConnectionResetError):  # the daemon has ended, or waits no longer
                return False
        return True
