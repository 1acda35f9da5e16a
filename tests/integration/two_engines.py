"""Two Docker Engines on this machine, each in namespaces of its own, joined by a cable of 1,500 bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.engine.connect import connect
from testbed.engine.docker import DockerEngine
from testbed.engine.place import Place
from testbed.errors import TestbedError

STARTS_WITHIN = 60.0
# With a /run of its own it does not find the containerd of another engine, which has another network.
DAEMON = """
mount -t tmpfs tmpfs /run
exec dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" --host "unix://$1/sock" \
    --bridge none --iptables=false >"$1/log" 2>&1
"""
CABLE = """
ip link add cable netns "$1" type veth peer name cable netns "$2"
plug='ip link set lo up; ip address add "$1" dev cable; ip link set cable up'
nsenter --target "$1" --net sh -ec "$plug" sh 192.168.77.1/24
nsenter --target "$2" --net sh -ec "$plug" sh 192.168.77.2/24
"""


@dataclass(frozen=True)
class OwnEngine:
    """An engine that a test has started; it ends with all of its containers when its first process does."""

    folder: Path
    process: int

    @property
    def address(self) -> str:
        """Where it is reached."""
        return f"unix://{self.folder}/sock"

    def connect(self) -> DockerEngine:
        """Reach it."""
        return connect(Place(self.address))

    def devices(self) -> list[str]:
        """The VXLAN devices of labs on its host."""
        command = ["nsenter", "--target", str(self.process), "--net", "cat", "/proc/net/dev"]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[2:]
        return [name for name in (line.partition(":")[0].strip() for line in lines) if name.startswith("tb")]

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Nobody reaches it for some time, as where its machine is off."""
        socket, away = self.folder / "sock", self.folder / "away"
        socket.rename(away)
        try:
            yield
        finally:
            away.rename(socket)


@contextmanager
def two_engines() -> Iterator[tuple[OwnEngine, OwnEngine]]:
    """Start them; the test is skipped where this machine cannot."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("dockerd", "ip"))):
        pytest.skip("two engines of the test's own need root, dockerd and ip on this machine")
    with ExitStack() as ending:
        one, other = ending.enter_context(_engine()), ending.enter_context(_engine())
        subprocess.run(["sh", "-ec", CABLE, "sh", str(one.process), str(other.process)], check=True)
        yield one, other


@contextmanager
def _engine() -> Iterator[OwnEngine]:
    folder = Path(tempfile.mkdtemp(prefix="testbed-engine-"))
    apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    holder = subprocess.Popen([*apart, "sh", "-ec", DAEMON, "sh", str(folder)])
    try:
        yield _answering(holder, folder)
    finally:
        holder.kill()
        holder.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _answering(holder: subprocess.Popen[bytes], folder: Path) -> OwnEngine:
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            connect(Place(f"unix://{folder}/sock")).close()
            children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
            return OwnEngine(folder, int(children[0]))
        except TestbedError:
            if time.monotonic() > deadline or holder.poll() is not None:
                log = (folder / "log").read_text(errors="replace") if (folder / "log").exists() else ""
                pytest.fail("dockerd does not answer:\n" + "\n".join(log.splitlines()[-5:]))
        time.sleep(0.1)
