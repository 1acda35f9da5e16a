"""One lab on two real engines: packets between them, a host that crashes and comes back, a killed `up`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from command_line import command, data
from two_engines import OwnEngine, two_engines

from testbed.engine import names
from testbed.engine.docker import DockerEngine

pytestmark = pytest.mark.kernel("vxlan")

TOPOLOGY = """\
name: engines
title: Two hosts on two engines, and a router between them
networks:
  left: {subnet: 10.1.0.0/24, domain: internet}
  right: {subnet: 10.2.0.0/24, domain: internet}
nodes:
  west: {roles: [correspondent], links: {left: 10.1.0.2}}
  middle: {roles: [router], links: {left: 10.1.0.1, right: 10.2.0.1}}
  east: {roles: [correspondent], links: {right: 10.2.0.2}}
place: {west: a, middle: b, east: a}
"""
KILLED_WITHIN = 60.0

Engines = tuple[OwnEngine, OwnEngine]


@pytest.fixture(scope="module")
def engines(
    engine: DockerEngine, node_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engines]:
    image = tmp_path_factory.mktemp("image") / "image.tar"
    with two_engines() as found:
        engine.save_image(node_image, image)
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda one: _load(one, image), found))
        image.unlink()
        yield found


def _load(engine: OwnEngine, image: Path) -> None:
    with closing(engine.connect()) as there:
        there.load_image(image)


@pytest.fixture
def options(engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What brings the lab up; nothing but its record leads later commands to its engines."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = tmp_path / "engines.yaml"
    file.write_text(TOPOLOGY)
    return [str(file), *(f"--engine={name}={one.address}" for name, one in zip("ab", engines, strict=True))]


def left(engine: OwnEngine) -> int:
    """How much an engine and its host have of labs."""
    with closing(engine.connect()) as there:
        labs = {names.LAB: ""}
        return len(there.containers(labs)) + len(there.networks(labs)) + len(engine.devices())


def run(node: str, *options: str) -> tuple[int, str, str]:
    """Run a command in a node; its exit code, and what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "testbed", "exec", "engines", node, "--", *options],
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_one_lab_on_two_engines(engines: Engines, options: list[str]) -> None:
    done = command("up", *options)
    assert done.returncode == 0, done.stderr
    assert "MTU 1450" in done.stderr
    status = data("status", "engines")
    assert {name: node["engine"] for name, node in status["nodes"].items()} == {
        "west": "a",
        "middle": "b",
        "east": "a",
    }
    assert status["trouble"] is None
    # Whole packets of the links' MTU cross both engines twice, and larger ones leave no node.
    script = """
        ping -c2 -i0.2 -Mdo -s1422 east && ! ping -c1 -W1 -Mdo -s1423 east && cat /sys/class/net/left/mtu
    """
    code, out, err = run("west", "sh", "-c", script)
    assert code == 0 and out.endswith("1450\n"), err

    # The host of b goes down: what is on a goes on.
    engines[1].crash()
    gone = "does not answer: what is there is left out"
    partial = command("status", "engines")
    assert partial.returncode == 0 and gone in partial.stderr and "middle" not in partial.stdout
    assert run("west", "true")[0] == 0
    code, _, err = run("middle", "true")
    assert code == 3 and "no engine that answers has a node middle" in err

    # It comes back, with containers that have ended, and networks without their devices: `up` mends that.
    engines[1].start()
    assert command("up", *options).returncode == 0
    code, out, _ = run("west", "ping", "-c1", "east")
    assert code == 0, out

    # It goes down once more: `down` removes what is left as soon as it is back.
    engines[1].crash()
    down = command("down", "engines")
    assert down.returncode == 3 and "what lab engines may have there is left: engine b" in down.stderr
    assert left(engines[0]) == 0

    engines[1].start()
    assert left(engines[1]) > 0
    assert command("down", "engines").returncode == 0
    assert left(engines[1]) == 0


def test_a_killed_up_leaves_nothing_that_down_does_not_find(engines: Engines, options: list[str]) -> None:
    for engine in engines:
        engine.shell("ip link set cable mtu 1550")
    up = subprocess.Popen(
        [sys.executable, "-m", "testbed", "up", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + KILLED_WITHIN
    while len(engines[1].devices()) < 2:  # the wires come before the nodes, and a single one is a trial
        assert up.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(up.pid, signal.SIGKILL)
    up.wait()
    assert sum(map(left, engines)) > 0
    assert {*engines[1].devices().values()} == {1500}
    assert command("down", "engines").returncode == 0
    assert sum(map(left, engines)) == 0
