"""What this machine's kernel may lack: tests of the daemons under an ordinary kernel, which has it."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path

import boot
import docker
import pytest
from namespaces import ROOT

HERE = Path(__file__).resolve().parents[2]
WITHIN = 240.0  # seconds; a quarter of that on a machine with nothing else to do
TUNNELS = ["test_co_located", "kernel_has", "devices_of_linux"]
"""Tests in which the kernel's own tunnels carry data; others do too, and take longer."""


@pytest.fixture(scope="session")
def root(engine, node_image, tmp_path_factory):
    """A folder with the files of the node image."""
    folder = tmp_path_factory.mktemp("image")
    client = docker.from_env()
    try:
        container = client.containers.create(node_image)
        try:
            archive = folder.with_suffix(".tar")
            with archive.open("wb") as file:
                file.writelines(container.export())
        finally:
            container.remove()
    finally:
        client.close()
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="tar")
    archive.unlink()
    return folder


def run(folder, root, *tests):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-q", *tests]
    inside = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(HERE), *command]
    environment = {ROOT: str(root), "CI": os.environ.get("CI", "")}
    return boot.run(inside, folder, within=WITHIN, environment=environment)


def test_tunnels_of_the_kernel(root, tmp_path):
    if reason := boot.unsupported():
        pytest.skip(f"this kernel lacks {reason}")
    done = run(tmp_path, root, "tests/integration/test_mobileip_netns.py", "-k", " or ".join(TUNNELS))
    assert done.code == 0, f"{done.output}\n{done.console}"
    assert " skipped" not in done.output.splitlines()[-1]


def test_esp_of_the_kernel(root, tmp_path):
    if reason := boot.unsupported():
        pytest.skip(f"this kernel lacks {reason}")
    done = run(tmp_path, root, "tests/kernel/esp.py")
    assert done.code == 0, f"{done.output}\n{done.console}"
    assert done.output.splitlines()[-1].startswith("6 passed")
