"""An engine in memory for tests: as strict as a real one about names, subnets and endpoints; able to fail.

A container's "first process" is `behave`: a function that is given the container and writes its log.
"""

from __future__ import annotations

import io
import itertools
import json
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from threading import Condition, RLock
from types import TracebackType
from typing import Self

from testbed.engine.api import (
    Container,
    ContainerSpec,
    EngineFacts,
    InUseError,
    Line,
    NameTakenError,
    Network,
    NetworkSpec,
    NotFoundError,
    Stream,
    SubnetOverlapError,
    UnreachableError,
)


@dataclass
class FakeContainer:
    """A container and what it wrote; `write` and `stop` are for whoever plays its processes."""

    id: str
    spec: ContainerSpec
    state: str = "created"
    exit_code: int = 0
    lines: list[Line] = field(default_factory=list)
    changed: Condition = field(default_factory=Condition)
    clock: Callable[[], float] = time.time  # of the engine's machine

    def write(self, text: str, stream: Stream = "stdout") -> None:
        """Append a line to its log."""
        with self.changed:
            self.lines.append(Line(stream, self.clock(), text))
            self.changed.notify_all()

    def event(self, event: str, source: str, **more: object) -> None:
        """Append an event, as nodes do."""
        stamp = {"event": event, "source": source, "monotonic": time.monotonic()}
        self.write(json.dumps({**stamp, **more}))

    def stop(self, code: int = 0) -> None:
        """Let its first process end."""
        with self.changed:
            self.state, self.exit_code = "exited", code
            self.changed.notify_all()

    def file(self, path: str) -> str:
        """Return the content of a file of its archive. Raises `KeyError`."""
        return self.read(path).decode()

    def read(self, path: str) -> bytes:
        """The same as bytes."""
        with tarfile.open(fileobj=io.BytesIO(self.spec.archive)) as archive:
            content = archive.extractfile(path.lstrip("/"))
            assert content is not None
            return content.read()


Behaviour = Callable[[FakeContainer], None]
Command = Callable[[FakeContainer, Sequence[str], bytes], tuple[bytes, bytes, int]]
"""Container, command, standard input → standard output, standard error, exit code."""


def become_ready(container: FakeContainer) -> None:
    """Behave as a healthy node: configured, every service ready."""
    container.event("configured", "init")
    for service in json.loads(container.file("/etc/testbed/node.json"))["ready"]:
        if service != "init":
            container.event("ready", service)


class FakeEngine:
    """The calls of `api.Engine`, with knobs for tests."""

    def __init__(
        self,
        *,
        behave: Behaviour = become_ready,
        command: Command = lambda container, command, stdin: (b"", b"", 0),
        latency: float = 0.0,
    ) -> None:
        self.behave = behave
        self.command = command
        self.latency = latency  # seconds every call takes
        self.behind = 0.0  # seconds that its clock is behind this machine's
        self.failures: dict[str, Callable[[str], BaseException | None]] = {}
        """Name of a call → what decides, given a name or id, whether it fails."""
        self.calls: Counter[str] = Counter()
        self.images = {"testbed-node:test"}
        self.host_links: set[str] = set()
        """The interfaces of its host that networks may have as parents."""
        self.gone = False
        """Whether it does not answer any more."""
        self.address = f"memory {id(self):x}"
        self.version = "1.0"
        self.architecture = "x86_64"
        self.members: tuple[str, ...] = ()
        self.lost: Mapping[str, str] = {}
        self.network_specs: dict[str, NetworkSpec] = {}
        self.boxes: dict[str, FakeContainer] = {}
        self._ids = itertools.count(1)
        self._lock = RLock()

    def facts(self) -> EngineFacts:
        """Say what engine this is."""
        self._called("facts", "")
        return EngineFacts(
            *("Fake Engine", self.version, "1.41", "6.1", self.address, 2, 1 << 32),
            architecture=self.architecture,
        )

    def networks(self, labels: Mapping[str, str] | None = None) -> list[Network]:
        """List networks."""
        self._called("networks", "")
        with self._lock:
            return [
                Network(id, spec.name, dict(spec.labels), (spec.subnet,))
                for id, spec in self.network_specs.items()
                if _carries(spec.labels, labels or {})
            ]

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """List containers."""
        self._called("containers", "")
        with self._lock:
            return [
                Container(id, box.spec.name, dict(box.spec.labels), box.state, _status(box), box.spec.image)
                for id, box in self.boxes.items()
                if _carries(box.spec.labels, labels)
            ]

    def has_image(self, name: str) -> bool:
        """Say whether the engine has this image."""
        self._called("has_image", name)
        return name in self.images

    def image_id(self, name: str) -> str:
        """Return a digest of the image's name."""
        self._called("image_id", name)
        return f"sha256:{sha256(name.encode()).hexdigest()}"

    def create_network(self, spec: NetworkSpec) -> str:
        """Create a network."""
        self._called("create_network", spec.name)
        with self._lock:
            assert spec.parent is None or spec.parent in self.host_links, f"no interface {spec.parent}"
            for other in self.network_specs.values():
                if other.name == spec.name:
                    raise NameTakenError(f"network with name {spec.name} already exists")
                if other.subnet.overlaps(spec.subnet):
                    raise SubnetOverlapError(f"{spec.subnet} overlaps {other.subnet}")
            id = f"n{next(self._ids)}"
            self.network_specs[id] = replace(spec, labels=dict(spec.labels))
            return id

    def create_container(self, spec: ContainerSpec) -> str:
        """Create a container."""
        self._called("create_container", spec.name)
        with self._lock:
            if spec.image not in self.images:
                raise NotFoundError(f"no such image: {spec.image}")
            if any(box.spec.name == spec.name for box in self.boxes.values()):
                raise NameTakenError(f"the container name {spec.name} is already in use")
            subnets = {each.name: each.subnet for each in self.network_specs.values()}
            for endpoint in spec.endpoints:
                if endpoint.network not in subnets:
                    raise NotFoundError(f"network {endpoint.network} not found")
                assert endpoint.address in self._usable(subnets[endpoint.network]), f"unusable: {endpoint}"
            id = f"c{next(self._ids)}"
            self.boxes[id] = FakeContainer(id, spec, clock=lambda: time.time() - self.behind)
            return id

    def _usable(self, subnet: IPv4Network) -> set[IPv4Address]:
        used = {endpoint.address for box in self.boxes.values() for endpoint in box.spec.endpoints}
        return set(subnet.hosts()) - {subnet.network_address + 1} - used

    def start_container(self, id: str) -> None:
        """Start it and let it behave."""
        self._called("start_container", id)
        box = self._box(id)
        box.state = "running"
        self.behave(box)

    def remove_container(self, id: str) -> None:
        """Kill and remove it."""
        self._called("remove_container", id)
        with self._lock:
            box = self.boxes.pop(id, None)
        if box:
            box.stop(137)

    def remove_network(self, id: str) -> None:
        """Remove it."""
        self._called("remove_network", id)
        with self._lock:
            spec = self.network_specs.get(id)
            if spec is None:
                return
            if any(e.network == spec.name for box in self.boxes.values() for e in box.spec.endpoints):
                raise InUseError(f"network {spec.name} has active endpoints")
            del self.network_specs[id]

    def logs(
        self,
        id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> FakeLog:
        """Read what it wrote."""
        self._called("logs", id)
        streams = {name for name, wanted in (("stdout", stdout), ("stderr", stderr)) if wanted}
        return FakeLog(self._box(id), follow, tail, streams, lambda: self.gone)

    def read_file(self, id: str, path: str) -> bytes:
        """Return the content of a file of a container's archive."""
        self._called("read_file", id)
        try:
            return self._box(id).read(path)
        except KeyError as error:
            raise NotFoundError(f"no {path} in {id}") from error

    def execute(self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False) -> FakeExec:
        """Run `command` of this engine."""
        self._called("execute", id)
        return FakeExec(self._box(id), tuple(command), self.command, tty)

    def save_image(self, name: str, file: Path) -> None:
        """Write the name of an image to a file."""
        self._called("save_image", name)
        file.write_text(name)

    def load_image(self, file: Path) -> None:
        """Have the image of such a file."""
        self._called("load_image", file.name)
        self.images.add(file.read_text())

    def close(self) -> None:
        """Give back nothing."""

    def box(self, node: str) -> FakeContainer:
        """Return the container whose name ends in -`node`, for tests."""
        return next(box for box in self.boxes.values() if box.spec.name.endswith(f"-{node}"))

    def _box(self, id: str) -> FakeContainer:
        with self._lock:
            if id not in self.boxes:
                raise NotFoundError(f"no such container: {id}")
            return self.boxes[id]

    def _called(self, call: str, subject: str) -> None:
        with self._lock:
            self.calls[call] += 1
        if self.latency:
            time.sleep(self.latency)
        if self.gone:
            raise UnreachableError("the engine does not answer")
        if (decide := self.failures.get(call)) and (error := decide(subject)):
            raise error


class FakeLog:
    """`LogStream` over a fake container."""

    def __init__(
        self,
        box: FakeContainer,
        follow: bool,
        tail: int | None,
        streams: set[str],
        gone: Callable[[], bool],
    ) -> None:
        self._box, self._follow, self._tail, self._streams, self._gone = box, follow, tail, streams, gone
        self._closed = False

    def __iter__(self) -> Iterator[Line]:
        position = 0
        if self._tail is not None:
            position = max(0, len(self._box.lines) - self._tail)
        while True:
            with self._box.changed:
                while len(self._box.lines) <= position and self._goes_on():
                    self._box.changed.wait(timeout=60)
                lines = self._box.lines[position:]
            if not lines:
                return
            position += len(lines)
            yield from (line for line in lines if line.stream in self._streams)

    def _goes_on(self) -> bool:
        return self._follow and not self._closed and not self._gone() and self._box.state == "running"

    def close(self) -> None:
        """End the stream."""
        with self._box.changed:
            self._closed = True
            self._box.changed.notify_all()


class FakeExec:
    """`ExecSession` over a function; runs it when the output is first asked for."""

    def __init__(self, box: FakeContainer, command: tuple[str, ...], run: Command, tty: bool) -> None:
        self._box, self._command, self._run, self._tty = box, command, run, tty
        self._input = bytearray()
        self._code: int | None = None
        self.size: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[tuple[Stream, bytes]]:
        out, err, self._code = self._run(self._box, self._command, bytes(self._input))
        if out:
            yield "stdout", out
        if err:
            yield ("stdout" if self._tty else "stderr"), err

    def send(self, data: bytes) -> None:
        """Remember input for the command."""
        self._input += data

    def end_input(self) -> None:
        """Do nothing: the command is given what was sent when it runs."""

    def resize(self, rows: int, columns: int) -> None:
        """Remember the size."""
        self.size = (rows, columns)

    def exit_code(self) -> int:
        """Return what the function returned."""
        assert self._code is not None, "exit_code() before the output was read"
        return self._code

    def close(self) -> None:
        """Disconnect."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _carries(actual: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(key in actual and value in ("", actual[key]) for key, value in wanted.items())


def _status(box: FakeContainer) -> str:
    return f"Exited ({box.exit_code})" if box.state == "exited" else box.state.capitalize()
