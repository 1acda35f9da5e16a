"""One lab on two real engines: packets between them, a killed `up`, an engine that is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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
        with closing(found[0].connect()) as first:
            first.load_image(image)
        image.unlink()
        yield found


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


def ping(*options: str) -> str:
    """What ping in west prints of its way to east."""
    run = [sys.executable, "-m", "testbed", "exec", "engines", "west", "--", "ping", *options, "east"]
    return subprocess.run(run, capture_output=True, text=True).stdout


def test_one_lab_on_two_engines(
    engines: Engines, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command("up", *options)
    assert done.returncode == 0, done.stderr
    assert "copying image" in done.stderr and "MTU 1450" in done.stderr
    status = data("status", "engines")
    assert {name: node["engine"] for name, node in status["nodes"].items()} == {
        "west": "a",
        "middle": "b",
        "east": "a",
    }
    # Whole packets of the links' MTU cross both engines twice, and larger ones leave no node.
    assert " 0% packet loss" in ping("-c2", "-i0.2", "-Mdo", "-s1422")
    assert " 0% packet loss" not in ping("-c1", "-W1", "-Mdo", "-s1423")
    with engines[1].unreachable():
        partial = command("status", "engines")
        assert partial.returncode == 0 and "engine b" in partial.stderr and "middle" not in partial.stdout
        down = command("down", "engines")
        assert down.returncode == 3 and "what lab engines may have on engine b is left there" in down.stderr
        assert left(engines[0]) == 0
    assert left(engines[1]) > 0
    monkeypatch.setenv("DOCKER_HOST", engines[1].address)  # as the message says
    assert command("down", "engines").returncode == 0
    assert left(engines[1]) == 0


def test_a_killed_up_leaves_nothing_that_down_does_not_find(engines: Engines, options: list[str]) -> None:
    up = subprocess.Popen(
        [sys.executable, "-m", "testbed", "up", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + KILLED_WITHIN
    while not engines[1].devices():  # the wires come before the nodes
        assert up.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(up.pid, signal.SIGKILL)
    up.wait()
    assert sum(map(left, engines)) > 0
    assert command("down", "engines").returncode == 0
    assert sum(map(left, engines)) == 0
