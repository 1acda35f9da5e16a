"""One connection a container for all commands in it: to have the engine start each costs far more.

A command that the engine starts costs some 60 ms of processor time, in the engine, its shim and runc; through
the channel (`testbed.node.channel`, in the node image) it costs what the command itself does.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from testbed.engine.api import (
    Container,
    ContainerSpec,
    Engine,
    EngineError,
    EngineFacts,
    ExecSession,
    LogStream,
    Network,
    NetworkSpec,
    Stream,
)
from testbed.frames import EXIT, HEADER, HELLO, INPUT, RUN, STDERR, STDOUT

COMMAND: Final = ("python3", "-m", "testbed.node.channel")
_STARTS_WITHIN: Final = 10.0  # seconds
_STREAMS: Final[Mapping[int, Stream]] = {STDOUT: "stdout", STDERR: "stderr"}


class ChannelSession:
    """`ExecSession` of a command that runs through a channel."""

    def __init__(self, channel: Channel, number: int, word: str) -> None:
        self._channel, self._number, self._word = channel, number, word
        self._arrived: queue.SimpleQueue[tuple[Stream, bytes] | None] = queue.SimpleQueue()
        self._code: int | None = None

    def __iter__(self) -> Iterator[tuple[Stream, bytes]]:
        while (piece := self._arrived.get()) is not None:
            yield piece
        self._arrived.put(None)  # whoever asks again finds the end again

    def send(self, data: bytes) -> None:
        """Write to the command's standard input. A command that has ended reads nothing: that is no error."""
        if data:
            self._channel.send(INPUT, self._number, data)

    def end_input(self) -> None:
        """End the command's standard input."""
        self._channel.send(INPUT, self._number)

    def resize(self, rows: int, columns: int) -> None:
        """Nothing: it has no terminal."""

    def exit_code(self) -> int:
        """What the command ended with. Raises `EngineError` where the connection ended before."""
        if self._code is None:
            raise EngineError(f"the connection ended before {self._word} did")
        return self._code

    def close(self) -> None:
        """Disconnect; the command's input ends, and it goes on if it does not mind."""
        if self._code is None:
            self._channel.forget(self._number)
        self._arrived.put(None)

    def take(self, kind: int, data: bytes) -> None:
        """A frame has come for it."""
        if kind == EXIT:
            self._code = int(data)
            self._arrived.put(None)
        else:
            self._arrived.put((_STREAMS[kind], data))

    def cut(self) -> None:
        """Nothing will come any more."""
        self._arrived.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Channel:
    """The connection to one container; a thread of its own reads it."""

    def __init__(self, session: ExecSession) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._sending = threading.Lock()  # a frame at a time
        self._commands: dict[int, ChannelSession] = {}
        self._last = 0
        self._settled = threading.Event()  # it takes commands, or never will
        self.alive = False
        """Whether it takes commands."""
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self) -> bool:
        """Return whether it takes commands, as soon as that is known."""
        self._settled.wait(_STARTS_WITHIN)
        return self.alive

    def begin(self, command: Sequence[str]) -> ChannelSession | None:
        """Begin a command; None where the connection has ended."""
        with self._lock:
            if not self.alive:
                return None
            self._last += 1
            session = self._commands[self._last] = ChannelSession(self, self._last, command[0])
            number = self._last
        self.send(RUN, number, "\0".join(command).encode())
        return session

    def send(self, kind: int, number: int, data: bytes = b"") -> None:
        """Send a frame; one that belongs to no command (any more) is ignored there."""
        with self._sending:
            self._session.send(HEADER.pack(kind, number, len(data)) + data)

    def forget(self, number: int) -> None:
        """End a command's input, and take no notice of it any more."""
        with self._lock:
            if self._commands.pop(number, None) is None:
                return
        self.send(INPUT, number)

    def close(self) -> None:
        """End the connection, and with it the input of each command."""
        self._session.end_input()
        self._session.close()

    def _read(self) -> None:
        buffer = bytearray()
        with contextlib.suppress(EngineError):
            for stream, data in self._session:
                if stream == "stdout":
                    buffer += data
                    self._take(buffer)
        with self._lock:
            self.alive = False
            left = list(self._commands.values())
            self._commands.clear()
        for session in left:
            session.cut()
        self._settled.set()

    def _take(self, buffer: bytearray) -> None:
        while len(buffer) >= HEADER.size:
            kind, number, length = HEADER.unpack_from(buffer)
            end = HEADER.size + length
            if len(buffer) < end:
                return
            data = bytes(buffer[HEADER.size : end])
            del buffer[:end]
            if kind == HELLO:
                self.alive = True
                self._settled.set()
                continue
            with self._lock:
                session = self._commands.pop(number, None) if kind == EXIT else self._commands.get(number)
            if session is not None:
                session.take(kind, data)


class ChannelEngine:
    """An engine (`api.Engine`) whose commands go through channels, opened with the first in a container.

    A container whose image lacks the channel's program gets each command from the engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._containers: dict[str, _Commands] = {}

    def execute(
        self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> ExecSession:
        """Run a command in a running container, through its channel where that is possible."""
        if not tty:
            with self._lock:
                commands = self._containers.setdefault(id, _Commands())
            if (channel := commands.channel(self._engine, id)) and (session := channel.begin(command)):
                if not stdin:
                    session.end_input()
                return session
        return self._engine.execute(id, command, stdin=stdin, tty=tty)

    def remove_container(self, id: str) -> None:
        """Kill and remove it, with its volumes; its channel ends with it."""
        with self._lock:
            commands = self._containers.pop(id, None)
        if commands:
            commands.close()
        self._engine.remove_container(id)

    def close(self) -> None:
        """End the channels. The engine is for others to close."""
        with self._lock:
            containers, self._containers = list(self._containers.values()), {}
        for commands in containers:
            commands.close()

    # The rest is the engine's own

    @property
    def bare(self) -> Engine:
        """The engine itself, for what is no affair of nodes: images."""
        return self._engine

    @property
    def address(self) -> str:
        """Where it is reached."""
        return self._engine.address

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the engines that it is made of."""
        return self._engine.members

    @property
    def lost(self) -> Mapping[str, str]:
        """Those of them that do not answer."""
        return self._engine.lost

    def facts(self) -> EngineFacts:
        """Say what engine this is."""
        return self._engine.facts()

    def networks(self, labels: Mapping[str, str] | None = None) -> list[Network]:
        """List networks with all of `labels`; None lists every network."""
        return self._engine.networks(labels)

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """List containers, running or not, that carry all of `labels`."""
        return self._engine.containers(labels)

    def has_image(self, name: str) -> bool:
        """Say whether the engine has this image; never pulls."""
        return self._engine.has_image(name)

    def image_id(self, name: str) -> str:
        """Return the digest of an image that the engine has."""
        return self._engine.image_id(name)

    def create_network(self, spec: NetworkSpec) -> str:
        """Create a network and return its id."""
        return self._engine.create_network(spec)

    def create_container(self, spec: ContainerSpec) -> str:
        """Create a container with all its endpoints and files, not yet started; return its id."""
        return self._engine.create_container(spec)

    def start_container(self, id: str) -> None:
        """Start it."""
        self._engine.start_container(id)

    def remove_network(self, id: str) -> None:
        """Remove it. A missing one is fine."""
        self._engine.remove_network(id)

    def logs(
        self,
        id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> LogStream:
        """Read what it wrote since its first start (or the last lines), then follow."""
        return self._engine.logs(id, follow=follow, tail=tail, stdout=stdout, stderr=stderr)

    def read_file(self, id: str, path: str) -> bytes:
        """Return the content of a file of a container, running or not."""
        return self._engine.read_file(id, path)


class _Commands:
    """How the commands of one container are started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._lacking = False  # the program, or Python

    def channel(self, engine: Engine, id: str) -> Channel | None:
        """Its channel, opened where it is not yet; None where it has none. Raises `EngineError`."""
        with self._lock:
            if self._lacking:
                return None
            if self._channel is None or not self._channel.alive:
                self._channel = Channel(engine.execute(id, COMMAND, stdin=True))
                if not self._channel.wait():
                    self.close()
                    self._lacking = True
            return self._channel

    def close(self) -> None:
        """End the channel, if there is one."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
