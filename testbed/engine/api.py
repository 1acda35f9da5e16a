"""What a lab asks of a container engine: a handful of blocking calls that several threads may make at once.

Every implementation (`docker`, `fake`) raises only the classes below, may be shared between threads and keeps
no state about labs of its own: labels are the truth about what belongs to a lab.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from types import TracebackType
from typing import Final, Literal, Protocol, Self

from testbed.errors import MachineError

Stream = Literal["stdout", "stderr"]

BASE_CAPABILITIES: Final = frozenset({"NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE", "SETGID", "SETUID", "KILL"})
"""What every node needs: links and rules, raw sockets, ports below 1024, tcpdump's own user, and its end."""


MEMORY_LIMIT: Final = 512 * 1024 * 1024
"""Bytes that a node may use, unless said otherwise."""
PIDS_LIMIT: Final = 512
"""Processes and threads that a node may have, unless said otherwise."""


class EngineError(MachineError):
    """The engine refused a call or did not answer; the message carries the engine's own words."""


class UnreachableError(EngineError):
    """The engine does not answer (any more)."""


class NotFoundError(EngineError):
    """The container, network or image a call names does not exist (any more)."""


class NameTakenError(EngineError):
    """A container or network of this name exists already."""


class SubnetOverlapError(EngineError):
    """The engine refuses a network because its subnet overlaps another one or a host route."""


class InUseError(EngineError):
    """A network cannot be removed yet: containers are still attached to it."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What answers the calls."""

    name: str  # "Docker Engine"
    version: str  # "20.10.24"
    api: str  # the API version negotiated, "1.41"
    kernel: str
    address: str  # where it was reached: "unix:///var/run/docker.sock"
    cpus: int
    memory: int  # bytes
    host: str = ""  # the name of its machine
    architecture: str = ""  # of its machine: "x86_64"


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network to create: no masquerading, not internal, and no address of the host on it.

    `subnet` is for the engine's books only. It is a bridge of the engine's host; with a `parent` it is
    carried by that interface of the host instead, which has to be there (macvlan).
    """

    name: str
    subnet: IPv4Network
    labels: Mapping[str, str]
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One attachment of a container: the name of an existing network, and the throwaway address there."""

    network: str
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container to create: everything a node is to the engine.

    Gets `BASE_CAPABILITIES` and those named, no others, and /dev/net/tun; no program of it gains more. Never
    privileged, no ports published, no host folder mounted, no restart policy.
    """

    name: str
    hostname: str
    image: str
    labels: Mapping[str, str]
    endpoints: tuple[Endpoint, ...]
    archive: bytes  # a tar, unpacked at / before the container starts
    sysctls: Mapping[str, str] = field(default_factory=dict)  # net.* only
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] | None = None  # None: what the image runs
    capabilities: frozenset[str] = frozenset()  # beyond the base, without CAP_
    cpus: float | None = None  # the limit; None: as many as there are
    memory: int = MEMORY_LIMIT
    pids: int = PIDS_LIMIT
    host_network: bool = False  # in the network namespace of the engine's host; it then has no endpoints


@dataclass(frozen=True, slots=True)
class Network:
    """A network the engine has, any network and not only a lab's."""

    id: str
    name: str
    labels: Mapping[str, str]
    subnets: tuple[IPv4Network, ...]


@dataclass(frozen=True, slots=True)
class Container:
    """A container the engine has."""

    id: str
    name: str
    labels: Mapping[str, str]
    state: str  # created, running, paused, restarting, removing, exited, dead
    status: str  # for people: "Up 3 minutes", "Exited (137) 2 seconds ago"
    image: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line a container's first process wrote, without its newline."""

    stream: Stream
    time: float  # seconds since the epoch by the engine's clock
    text: str


class LogStream(Protocol):
    """Lines as they come; ends when the log ends (following: when the container stops), or after `close`."""

    def __iter__(self) -> Iterator[Line]: ...

    def close(self) -> None:
        """End the stream, also from another thread while an iteration blocks in it; may be called twice."""
        ...


class ExecSession(Protocol):
    """A command running inside a container, with its streams connected to the caller."""

    def __iter__(self) -> Iterator[tuple[Stream, bytes]]:
        """Yield the output in pieces of any size until the command ends (with a terminal: all is stdout)."""
        ...

    def send(self, data: bytes) -> None:
        """Write to the command's standard input; another thread may do so while one iterates."""
        ...

    def end_input(self) -> None:
        """Tell the command that its standard input ends here."""
        ...

    def resize(self, rows: int, columns: int) -> None:
        """Tell the command's terminal its size; nothing happens without a terminal."""
        ...

    def exit_code(self) -> int:
        """Return what the command ended with; call it after the iteration has ended."""
        ...

    def close(self) -> None:
        """Disconnect, also from another thread while an iteration blocks; may be called twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Engine(Protocol):
    """The calls: they block, may come from several threads and raise `EngineError` or a class of it."""

    @property
    def address(self) -> str:
        """Where it is reached, as in `EngineFacts`."""
        ...

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the engines that this one is made of; none where it is a single engine.

        A container to create then needs the label `names.ENGINE`, one of them.
        """
        ...

    @property
    def lost(self) -> Mapping[str, str]:
        """Those of its engines that do not answer: name → address."""
        ...

    def facts(self) -> EngineFacts:
        """Say what engine this is."""
        ...

    def networks(self, labels: Mapping[str, str] | None = None) -> list[Network]:
        """List networks with all of `labels` ("" means the label is present); None: every network."""
        ...

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """List containers, running or not, that carry all of `labels` (values as for `networks`)."""
        ...

    def has_image(self, name: str) -> bool:
        """Say whether the engine has this image; never pulls."""
        ...

    def image_id(self, name: str) -> str:
        """Return the digest of an image that the engine has: `sha256:…`. Raises `NotFoundError`."""
        ...

    def create_network(self, spec: NetworkSpec) -> str:
        """Create a network and return its id. Raises `NameTakenError`, `SubnetOverlapError`."""
        ...

    def create_container(self, spec: ContainerSpec) -> str:
        """Create a container with all its endpoints and files, not yet started; return its id.

        Its networks exist. When a step fails, nothing of the container is left. Raises `NameTakenError`,
        `NotFoundError` (the image or a network).
        """
        ...

    def start_container(self, id: str) -> None:
        """Start it. Raises `NotFoundError`."""
        ...

    def remove_container(self, id: str) -> None:
        """Kill and remove it, with its volumes. A missing one, or one being removed already, is fine."""
        ...

    def remove_network(self, id: str) -> None:
        """Remove it. A missing one is fine. Raises `InUseError` while containers are attached."""
        ...

    def logs(
        self,
        id: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> LogStream:
        """Read what it wrote since its first start (or the last lines), then follow. `NotFoundError`."""
        ...

    def read_file(self, id: str, path: str) -> bytes:
        """Return the content of a file of a container, running or not. Raises `NotFoundError`."""
        ...

    def execute(
        self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> ExecSession:
        """Run a command in a running container. A missing command is exit code 126 or 127."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...
