"""A lab as a Docker Compose project, used by a project that has pytest-docker and no testbed."""

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

from testbed.cli import main

PROJECT = Path(__file__).parents[1] / "projects" / "compose"


def test_a_project_that_uses_the_export_alone(engine, node_image, tmp_path):
    lab = tmp_path / f"plain-{uuid4().hex[:8]}"
    assert main(["export", "plain-mip", "-d", str(lab)]) == 0
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"LAB": str(lab), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_docker", "-p", "no:cacheprovider", PROJECT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr
    assert not engine.containers({"com.docker.compose.project": lab.name})
