"""The pytest plugin on a real engine: a project that uses it alone, and sessions that are killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from command_line import command

from testbed.engine import names
from testbed.engine.docker import DockerEngine

pytestmark = pytest.mark.timeout(600)
PROJECT = Path(__file__).parents[1] / "projects" / "plugin"
KILLS = int(os.environ.get("KILLS", "3"))
CLEAN = """
import json, pathlib, time
import pytest

@pytest.mark.parametrize("number", range(2))
@pytest.mark.testbed("mine.yaml")
def test_nothing_is_left_of_others(lab, testbed_engine, number):
    time.sleep(0.5)  # until the other worker's lab has come as well
    theirs = testbed_engine.containers({"org.testbed.topology": lab.topology.name})
    makers = {one.labels["org.testbed.session"].partition(";")[0] for one in theirs}
    with pathlib.Path("seen").open("a") as file:
        file.write(json.dumps(sorted(makers)) + "\\n")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project whose labs are known by the name of their topology: that of the folder."""
    folder = tmp_path / f"mine-{uuid4().hex[:8]}"
    shutil.copytree(PROJECT, folder)
    file = folder / "mine.yaml"
    file.write_text(file.read_text().replace("name: mine\n", f"name: {folder.name}\n"))
    return folder


def start(project: Path, *options: str) -> subprocess.Popen[bytes]:
    """Run the project's tests; what pytest prints is in the file `out`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    with (project / "out").open("wb") as out:
        return subprocess.Popen(command, cwd=project, env=environment, stdout=out, stderr=out)


def left_of(engine: DockerEngine, project: Path) -> list[str]:
    labels = {names.TOPOLOGY: project.name}
    return [each.name for each in (*engine.containers(labels), *engine.networks(labels))]


def test_a_project_that_uses_the_plugin_alone(engine: DockerEngine, node_image: str, project: Path) -> None:
    code = start(project, "-n", "2", "-v", "--testbed-evidence", "evidence").wait(400)
    out = (project / "out").read_text()
    assert code == 0 and "9 passed" in out and "mine.yaml::at-home" in out, out
    assert left_of(engine, project) == []
    folder = str(project / "evidence" / "mine.yaml-at-home")
    assert command("judge", folder).returncode == 0
    told = command("explain", "at-home", str(project / "mine.yaml"), "--evidence", folder)
    assert "This evidence says: reproduced" in told.stdout, told


def test_after_a_kill_the_next_session_starts_clean(
    engine: DockerEngine, node_image: str, project: Path
) -> None:
    (project / "test_clean.py").write_text(CLEAN)
    tests = ("-o", "addopts=", "test_clean.py")
    left = []
    for kill in range(KILLS):
        before = {*left_of(engine, project)}
        session = start(project, "-n", "2" if kill % 5 == 4 else "0", *tests)
        deadline = time.monotonic() + 60
        while len({*left_of(engine, project)} - before) < kill % 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(random.uniform(0.0, 1.0))  # a lab has four things; then it gets ready, and is used
        session.kill()
        session.wait(20)  # not for its workers, which notice later
        left.append(len(left_of(engine, project)))
    code = start(project, "-n", "2", *tests).wait(400)
    out = (project / "out").read_text()
    assert code == 0 and "2 passed" in out, out
    assert left_of(engine, project) == []
    makers = [json.loads(line) for line in (project / "seen").read_text().splitlines()]
    assert len(makers) >= 2 and {len(one) for one in makers} == {1}, makers
    assert any(left), "no kill left anything, so that nothing was shown"
    print(f"left by each kill: {left}")
