"""Two Docker Engines on this machine, each in namespaces of its own, joined by a cable of 1,500 bytes."""

from __future__ import annotations

import json
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
# With a /run of its own it does not find the containerd of another engine, which has another network. On a
# disk, removing the data alone would take half a minute.
HOST = """
mount -t tmpfs tmpfs /run
mkdir "$1/data"
mount -t tmpfs tmpfs "$1/data"
touch "$1/ready"
exec sleep infinity
"""
DAEMON = """
exec dockerd --data-root "$1/data" --exec-root /run/docker --pidfile /run/docker.pid --host "unix://$1/sock" \
    --bridge none --iptables=false >>"$1/log" 2>&1
"""
CABLE = """
ip link add cable netns "$1" type veth peer name cable netns "$2"
plug='ip link set lo up; ip address add "$1" dev cable; ip link set cable up'
nsenter --target "$1" --net sh -ec "$plug" sh 192.168.77.1/24
nsenter --target "$2" --net sh -ec "$plug" sh 192.168.77.2/24
"""
CRASH = """
kill -9 -1
umount --lazy /run
mount -t tmpfs tmpfs /run
mount | sed -n "s,^overlay on \\($1/data/[^ ]*\\) .*,\\1,p" | xargs --no-run-if-empty umount --lazy
for device in $(ip -brief link show type vxlan | cut -d" " -f1); do ip link delete "$device"; done
"""


@dataclass(frozen=True)
class OwnEngine:
    """An engine that a test has started, and its host: namespaces that end with their first process."""

    folder: Path
    host: int
    """The first process of its host."""

    @property
    def address(self) -> str:
        """Where it is reached."""
        return f"unix://{self.folder}/sock"

    def connect(self) -> DockerEngine:
        """Reach it."""
        return connect(Place(self.address))

    def shell(self, script: str, *arguments: str) -> str:
        """Run a script on its host; return what it prints."""
        return subprocess.run(
            self._inside(script, *arguments), check=True, capture_output=True, text=True
        ).stdout

    def devices(self) -> dict[str, int]:
        """The VXLAN devices on its host, and the MTU of each."""
        links = json.loads(self.shell("ip -json link show type vxlan") or "[]")
        return {link["ifname"]: link["mtu"] for link in links}

    def start(self) -> None:
        """Start the engine and wait until it answers."""
        daemon = subprocess.Popen(self._inside(DAEMON, str(self.folder)))
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                self.connect().close()
                return
            except TestbedError:
                if time.monotonic() > deadline or daemon.poll() is not None:
                    lines = (self.folder / "log").read_text(errors="replace").splitlines()
                    pytest.fail("dockerd does not answer:\n" + "\n".join(lines[-5:]))
            time.sleep(0.1)

    def crash(self) -> None:
        """All of its programs and devices end at once, as when the power of its host fails; disks stay."""
        self.shell(CRASH, str(self.folder))

    def _inside(self, script: str, *arguments: str) -> list[str]:
        enter = ["nsenter", "--target", str(self.host), "--net", "--mount", "--pid"]
        return [*enter, "sh", "-ec", script, "sh", *arguments]


@contextmanager
def two_engines() -> Iterator[tuple[OwnEngine, OwnEngine]]:
    """Start them; the test is skipped where this machine cannot."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("dockerd", "ip"))):
        pytest.skip("two engines of the test's own need root, dockerd and ip on this machine")
    with ExitStack() as ending:
        one, other = ending.enter_context(_host()), ending.enter_context(_host())
        subprocess.run(["sh", "-ec", CABLE, "sh", str(one.host), str(other.host)], check=True)
        for engine in (one, other):
            engine.start()
        yield one, other


@contextmanager
def _host() -> Iterator[OwnEngine]:
    folder = Path(tempfile.mkdtemp(prefix="testbed-engine-"))
    apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    holder = subprocess.Popen([*apart, "sh", "-ec", HOST, "sh", str(folder)])
    try:
        deadline = time.monotonic() + STARTS_WITHIN
        while not (folder / "ready").exists():
            assert holder.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        yield OwnEngine(folder, int(children[0]))
    finally:
        holder.kill()
        holder.wait()
        shutil.rmtree(folder, ignore_errors=True)
