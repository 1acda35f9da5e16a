"""Many commands through one connection: what the engine would start one by one is begun from inside.

    python3 -m testbed.node.channel

Frames (`testbed.frames`) come on standard input and go to standard output. Each command has a session of its
own and three pipes. When the channel's input ends, the channel does, and with it the inputs of its commands.
"""

from __future__ import annotations

import os
import select
import signal

from testbed.frames import EXIT, HEADER, HELLO, INPUT, RUN, STDERR, STDOUT

PIECE = 1 << 16
MISSING, REFUSED = 127, 126
"""Exit codes of a command that is not there, and of one that cannot be started."""


class Command:
    """A command that runs, and its pipes."""

    def __init__(self, words: list[bytes]) -> None:
        """Raises OSError where it cannot be started."""
        self.code: int | None = None  # it runs
        self.waiting = bytearray()  # for its input
        self.ending = False  # its input ends once that is written
        stdin, self.stdin = os.pipe()
        stdout, to_stdout = os.pipe()
        stderr, to_stderr = os.pipe()
        self.outputs = {stdout: STDOUT, stderr: STDERR}
        """Those that have not ended."""
        ends = (stdin, to_stdout, to_stderr)
        try:
            self.pid = os.posix_spawnp(
                words[0],
                words,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, one, standard) for standard, one in enumerate(ends)],
                setsid=True,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
            )
        except BaseException:
            for descriptor in (self.stdin, *self.outputs):
                os.close(descriptor)
            raise
        finally:
            for descriptor in ends:
                os.close(descriptor)
        for descriptor in (self.stdin, *self.outputs):
            os.set_blocking(descriptor, False)

    @property
    def over(self) -> bool:
        """Whether it has ended and all that it wrote was read."""
        return self.code is not None and not self.outputs


class Channel:
    """The commands of one connection."""

    def __init__(self, source: int = 0, target: int = 1) -> None:
        self._source, self._target = source, target
        self._buffer = bytearray()
        self._commands: dict[int, Command] = {}
        self._readers: dict[int, int] = {}  # an output → the number of its command
        self._writers: dict[int, int] = {}  # an input, likewise
        self._poll = select.poll()

    def run(self) -> None:
        """Until the input ends."""
        ended, woken = os.pipe()
        for descriptor in (ended, woken):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._poll.register(ended, select.POLLIN)
        self._poll.register(self._source, select.POLLIN)
        self._send(HELLO, 0)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == ended:
                    os.read(ended, PIECE)
                    self._reap()
                elif descriptor in self._readers:
                    self._read(descriptor)
                elif descriptor in self._writers:
                    self._feed(self._writers[descriptor])
                elif descriptor == self._source and not self._take():
                    return

    def _take(self) -> bool:
        """Take what has come; False at the end."""
        data = os.read(self._source, PIECE)
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            kind, number, length = HEADER.unpack_from(self._buffer)
            end = HEADER.size + length
            if len(self._buffer) < end:
                break
            content = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            if kind == RUN:
                self._begin(number, content.split(b"\0"))
            elif kind == INPUT and number in self._commands:
                command = self._commands[number]
                command.waiting += content
                command.ending = command.ending or not content
                self._feed(number)
        return bool(data)

    def _begin(self, number: int, words: list[bytes]) -> None:
        try:
            command = Command(words)
        except OSError as error:
            name = words[0].decode(errors="replace")
            self._send(STDERR, number, f"{name}: {error.strerror}\n".encode())
            code = MISSING if isinstance(error, FileNotFoundError) else REFUSED
            self._send(EXIT, number, str(code).encode())
            return
        self._commands[number] = command
        for descriptor in command.outputs:
            self._readers[descriptor] = number
            self._poll.register(descriptor, select.POLLIN)

    def _read(self, descriptor: int) -> None:
        number = self._readers[descriptor]
        command = self._commands[number]
        try:
            data = os.read(descriptor, PIECE)
        except BlockingIOError:  # what there was to read was of another that had this number
            return
        if data:
            self._send(command.outputs[descriptor], number, data)
            return
        self._poll.unregister(descriptor)
        os.close(descriptor)
        del self._readers[descriptor], command.outputs[descriptor]
        self._end(number)

    def _feed(self, number: int) -> None:
        """Write what its input takes now; the rest when it takes more."""
        command = self._commands[number]
        if command.stdin < 0:  # it takes nothing any more
            return
        try:
            while command.waiting:
                del command.waiting[: os.write(command.stdin, command.waiting)]
        except BlockingIOError:
            if command.stdin not in self._writers:
                self._writers[command.stdin] = number
                self._poll.register(command.stdin, select.POLLOUT)
            return
        except OSError:  # it has ended, or closed its input
            command.ending = True
            command.waiting.clear()
        if self._writers.pop(command.stdin, None) is not None:
            self._poll.unregister(command.stdin)
        if command.ending:
            os.close(command.stdin)
            command.stdin = -1

    def _reap(self) -> None:
        for number, command in list(self._commands.items()):
            if command.code is None:
                pid, status = os.waitpid(command.pid, os.WNOHANG)
                if pid:
                    code = os.waitstatus_to_exitcode(status)
                    command.code = code if code >= 0 else 128 - code
                    self._end(number)

    def _end(self, number: int) -> None:
        command = self._commands[number]
        if command.over:
            command.ending = True
            command.waiting.clear()
            self._feed(number)
            del self._commands[number]
            self._send(EXIT, number, str(command.code).encode())

    def _send(self, kind: int, number: int, data: bytes = b"") -> None:
        frame = HEADER.pack(kind, number, len(data)) + data
        while frame:
            frame = frame[os.write(self._target, frame) :]


if __name__ == "__main__":
    Channel().run()
