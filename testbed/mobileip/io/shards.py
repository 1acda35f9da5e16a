"""A home agent in several processes, which share its mobile nodes out and nothing else.

The process that was started is their parent. It binds the sockets of all before it forks and keeps them open,
so that requests wait for the successor of a process that has died. It writes the events of all, and answers
for all at the control socket. Each process ends when its parent has gone.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from testbed.mobileip.io.control import ControlServer
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.journal import Journal, encode, log
from testbed.mobileip.io.loop import Loop
from testbed.mobileip.io.shard_requests import Reply, ShardRequests
from testbed.mobileip.io.steering import Share, Steering
from testbed.mobileip.io.udp import RegistrationSocket
from testbed.mobileip.tunnel.api import PlaneError
from testbed.mobileip.wire.value import value

END_PATIENCE = 5.0
"""Seconds for processes to take back what they have set up."""
FAILED = 3
_READY = b'{"event": "ready"'


@value
class Part:
    """What a process has of its parent."""

    share: Share
    sockets: Sequence[RegistrationSocket]
    link: socket.socket
    """Brings requests; its end is the parent's."""
    events: int
    """Takes events, instead of stdout."""


class _Process:
    """One of the processes, as the parent sees it."""

    def __init__(self, number: int, pid: int, link: socket.socket, events: int) -> None:
        self.number = number
        self.pid = pid
        self.link = link
        self.events = events
        self.ready = False
        self.asked: deque[Callable[[Reply], None]] = deque()
        """Who waits for replies, in the order of the requests."""
        self._told = self._replied = b""

    def read_events(self) -> list[bytes] | None:
        """The events that have come, whole lines; None: it has ended."""
        some = os.read(self.events, 0x10000)
        if not some:
            return None
        *lines, self._told = (self._told + some).split(b"\n")
        return [line + b"\n" for line in lines]

    def read_replies(self) -> None:
        """Hand on the replies that have come."""
        try:
            some = self.link.recv(0x40000)
        except OSError:
            return
        *lines, self._replied = (self._replied + some).split(b"\n")
        for line in lines:
            self.asked.popleft()(json.loads(line))

    def leave(self) -> None:
        """Close what leads to it."""
        self.link.close()
        os.close(self.events)


class Shards:
    """Starts the processes, anew where one ends, and stands for all of them."""

    def __init__(
        self,
        steering: Steering,
        places: Sequence[Sequence[RegistrationSocket]],
        body: Callable[[Part], None],
        journal: Journal,
        control: Path | None,
    ) -> None:
        """`places` has for each place the sockets of all processes; `body` is what a process does.

        Raises NodeError.
        """
        self._steering = steering
        self._places = places
        self._body = body
        self._journal = journal
        self._loop = Loop()
        self._processes: dict[int, _Process] = {}
        self._told_ready = False
        self._control: ControlServer | None = None
        if control is not None:
            requests = ShardRequests(steering, self._ask)
            self._control = ControlServer(control, self._loop, journal, requests.handle)

    def run(self) -> None:
        """Until a signal; raises NodeError where a process ends before it is ready."""
        self._loop.catch_signals()
        gc.freeze()  # what was read is shared by all, as long as nobody writes to it
        gc.enable()
        try:
            for number in range(self._steering.processes):
                self._start(number)
            self._loop.run(lambda: None, lambda: None)
        finally:
            if self._control is not None:
                self._control.close()
            self._end_all()

    # -- processes ---------------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        pid = os.fork()
        process = _Process(number, pid, ours, reading)
        if not pid:
            for each in (process, *self._processes.values()):
                each.leave()
            self._become(number, theirs, writing)
        theirs.close()
        os.close(writing)
        ours.setblocking(False)
        self._processes[number] = process
        self._loop.add(reading, partial(self._read_events, process))
        self._loop.add(ours.fileno(), process.read_replies)

    def _become(self, number: int, link: socket.socket, events: int) -> NoReturn:
        """Be the process of a number, in which nothing of the parent must be undone, and end."""
        code = FAILED
        try:
            gc.disable()  # until it runs
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if self._control is not None:
                self._control.leave()
            for sockets in self._places:
                for other, each in enumerate(sockets):
                    if other != number:
                        each.close()
            own = [sockets[number] for sockets in self._places]
            self._body(Part(Share(self._steering, number), own, link, events))
            code = 0
        except (NodeError, PlaneError, PermissionError) as error:
            log(f"{self._journal.source}: process {number}: {error}")
        except BaseException:
            import traceback  # which takes a while, and is seldom needed

            traceback.print_exc()
        finally:
            os._exit(code)

    def _read_events(self, process: _Process) -> None:
        if (lines := process.read_events()) is None:
            self._replace(process)
            return
        with self._journal.together():
            for line in lines:
                if line.startswith(_READY):
                    self._is_ready(process, json.loads(line)["backend"])
                else:
                    self._journal.pass_on(line)

    def _is_ready(self, process: _Process, backend: str) -> None:
        process.ready = True
        if self._told_ready:
            self._journal.tell("process-restarted", {"process": process.number})
        elif all(each.ready for each in self._processes.values()):
            self._told_ready = True
            self._journal.tell("ready", {"backend": backend, "processes": self._steering.processes})

    def _replace(self, process: _Process) -> None:
        """Start a process anew; what it has asked to remember is in its file."""
        self._loop.remove(process.events)
        self._loop.remove(process.link.fileno())
        process.leave()
        _, status = os.waitpid(process.pid, 0)
        gone = f"process {process.number} has ended ({_why(status)})"
        del self._processes[process.number]
        if not process.ready:
            raise NodeError(f"{gone} before it was ready")
        log(f"{self._journal.source}: {gone}: there is a new one")
        self._start(process.number)
        for answer in process.asked:
            answer({"ok": False, "error": gone})

    def _end_all(self) -> None:
        until = time.monotonic() + END_PATIENCE
        for process in self._processes.values():
            os.kill(process.pid, signal.SIGTERM)  # not yet waited for: it is still ours
        for process in self._processes.values():
            while (left := until - time.monotonic()) > 0:
                if select.select([process.events], [], [], left)[0]:
                    if (lines := process.read_events()) is None:
                        break
                    for line in lines:
                        self._journal.pass_on(line)
            process.leave()
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)

    # -- requests ----------------------------------------------------------------------------------------

    def _ask(self, number: int, request: Mapping[str, Any], answer: Callable[[Reply], None]) -> None:
        process = self._processes[number]
        message = encode(request)
        try:
            whole = process.link.send(message) == len(message)
        except OSError:
            whole = False
        if whole:
            process.asked.append(answer)
        else:
            answer({"ok": False, "error": f"process {number} does not answer"})


def _why(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit code {code}"
