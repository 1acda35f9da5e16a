"""A project that knows a lab as a Docker Compose project alone, through pytest-docker."""

import os
import subprocess
from pathlib import Path

import pytest

LAB = Path(os.environ["LAB"])  # where `testbed export` wrote it
COMPOSE = os.environ.get("COMPOSE", "docker-compose")


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    return COMPOSE


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(LAB / "compose.yaml")


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return LAB.name


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    return ["up -d --no-build"]


@pytest.fixture(scope="session")
def run(docker_services):
    """Run the lab's own script once the mobile node has come to rest; return what it prints."""
    environment = {**os.environ, "COMPOSE": COMPOSE}

    def run(*words: str) -> str:
        done = subprocess.run([LAB / "lab", *words], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def settled() -> bool:
        command = [LAB / "lab", "state", "mn", "roam"]
        return (
            '"moving": false'
            in subprocess.run(command, env=environment, capture_output=True, text=True).stdout
        )

    docker_services.wait_until_responsive(check=settled, timeout=60.0, pause=0.2)
    return run
