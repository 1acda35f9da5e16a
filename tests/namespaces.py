"""Nodes without a container engine, where tests run under a kernel of their own (tests/kernel).

A node is a set of namespaces with the node image's files for a root, and a network is a bridge.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from testbed.render.lab import RenderedLab, RenderedNode

ROOT = "TESTBED_TEST_ROOT"
"""The variable that names the folder of the node image's files; where it is set, there is no engine."""
PLACE = Path("/run/nodes")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",
}
HOLD = """
mount --make-rprivate /
mount -t proc proc "$1/proc"
mount -t sysfs sysfs "$1/sys"
mount --bind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/run"
mkdir -p "$1/run/testbed"
read -r here rest </proc/self/stat # the process id outside, where this /proc was mounted
exec chroot "$1" sh -c 'echo "$1"; exec sleep infinity' sh "$here"
"""

Stream = Literal["stdout", "stderr"]


class Session:
    """A command in a node; what `testbed.engine.api.ExecSession` says, without terminals."""

    def __init__(self, command: Sequence[str], stdin: bool) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        self._pieces: queue.Queue[tuple[Stream, bytes]] = queue.Queue()
        for name in ("stdout", "stderr"):
            threading.Thread(target=self._read, args=(name,), daemon=True).start()

    def _read(self, name: Stream) -> None:
        stream = getattr(self._process, name)
        while piece := os.read(stream.fileno(), 65536):
            self._pieces.put((name, piece))
        self._pieces.put((name, b""))

    def __iter__(self) -> Iterator[tuple[Stream, bytes]]:
        open_streams = 2
        while open_streams:
            name, piece = self._pieces.get()
            if piece:
                yield name, piece
            else:
                open_streams -= 1

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def exit_code(self) -> int:
        code = self._process.wait()
        return code if code >= 0 else 128 - code  # as a shell says it

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()


class Namespaces:
    """The part of an engine that tests of daemons use: commands in nodes.

    A node's id is the process id of what holds its namespaces.
    """

    def execute(self, id: str, command: Sequence[str], *, stdin: bool = False) -> Session:
        """Run a command in a node."""
        here = f"/proc/{id}"
        enter = [f"--{name}={here}/ns/{name}" for name in ("net", "pid")]
        enter += [f"--mount={here}/ns/mnt", f"--root={here}/root", f"--wd={here}/root"]
        return Session(["nsenter", *enter, *command], stdin)

    def close(self) -> None:
        """Nothing stays open."""


@contextmanager
def nodes(lab: RenderedLab, image: Path) -> Iterator[dict[str, str]]:
    """The nodes of a lab with their links, which are down; yields their ids by name."""
    subprocess.run(
        ["mount", "--bind", "/proc", str(image / "proc")], check=True
    )  # `ip` looks for the holders
    with ExitStack() as stack:
        held = {name: _hold(node, PLACE / lab.name, image, stack) for name, node in lab.nodes.items()}
        for network in lab.topology.topology.networks:
            _ip(image, "link", "add", f"br-{network}", "type", "bridge")
            stack.callback(_ip, image, "link", "delete", f"br-{network}")  # for the lab of the next file
            _ip(image, "link", "set", f"br-{network}", "up")
        for number, (name, network) in enumerate(
            (name, network) for name, node in lab.nodes.items() for network in node.links
        ):
            peer = ("type", "veth", "peer", "name", network, "netns", held[name])
            _ip(image, "link", "add", f"v{number}", *peer)
            stack.callback(_ip, image, "link", "delete", f"v{number}")
            _ip(image, "link", "set", f"v{number}", "master", f"br-{network}", "up")
        yield held


def _hold(node: RenderedNode, folder: Path, image: Path, stack: ExitStack) -> str:
    place = folder / node.name
    root = place / "root"
    for part in ("upper", "work", "root"):
        (place / part).mkdir(parents=True)
    layers = f"lowerdir={image},upperdir={place / 'upper'},workdir={place / 'work'}"
    subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", str(root)], check=True)
    for path, file in node.files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(file.content)
    holder = subprocess.Popen(
        [
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-ec",
            HOLD,
            "sh",
            str(root),
        ],
        stdout=subprocess.PIPE,
    )
    stack.callback(holder.wait)
    stack.callback(holder.kill)
    assert holder.stdout is not None
    id = holder.stdout.readline().decode().strip()
    assert id
    _settings(id, node.sysctls)
    return id


def _settings(id: str, sysctls: Mapping[str, str]) -> None:
    lines = ["ip link set lo up", *(f"sysctl {key} {value}" for key, value in sysctls.items())]
    script = """
    sysctl() { echo "$2" >"/proc/sys/$(echo "$1" | tr . /)"; }
    """ + "\n".join(lines)
    session = Namespaces().execute(id, ["sh", "-ec", script])
    said = b"".join(piece for _, piece in session)
    assert session.exit_code() == 0, said


def _ip(image: Path, *arguments: str) -> None:
    done = subprocess.run(["chroot", str(image), "ip", *arguments], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
