"""What this machine's kernel may lack: tests of the daemons under an ordinary kernel, which has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import boot
import docker
import pytest
from namespaces import ROOT

HERE = Path(__file__).resolve().parents[2]
WITHIN = 500.0  # seconds; a tenth of that on a machine with nothing else to do
pytestmark = pytest.mark.timeout(600)
FILES = {"test_mobileip_netns": "tests/integration/test_mobileip_netns.py", "esp": "tests/kernel/esp.py"}
TESTS = ["test_co_located", "kernel_has", "devices_of_linux", "nobody_registered", "esp.py"]
"""Tests in which the kernel's own tunnels carry data; others do too, and take longer. And those of ESP."""


@pytest.fixture(scope="module")
def root(engine, node_image, tmp_path_factory):
    """A folder with the files of the node image."""
    folder = tmp_path_factory.mktemp("image")
    client = docker.from_env()
    try:
        container = client.containers.create(node_image)
        try:
            with subprocess.Popen(["tar", "-x", "-C", folder], stdin=subprocess.PIPE) as unpacking:
                for piece in container.export():
                    unpacking.stdin.write(piece)
            assert unpacking.returncode == 0
        finally:
            container.remove()
    finally:
        client.close()
    return folder


@pytest.fixture(scope="module")
def done(root, tmp_path_factory):
    """What became of the tests of each file, in one start of the kernel: file → test → "" if it passed."""
    if reason := boot.unsupported():
        pytest.skip(f"this kernel lacks {reason}")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-q"]
    command += [*FILES.values(), "-k", " or ".join(TESTS), "--junit-xml", "/run/out/done.xml"]
    inside = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(HERE), *command]
    environment = {ROOT: str(root), "CI": os.environ.get("CI", "")}
    folder = tmp_path_factory.mktemp("kernel")
    ended = boot.run(inside, folder, within=WITHIN, environment=environment)
    report = folder / "done.xml"
    assert report.exists(), f"{ended.output}\n{ended.console}"
    found = {file: {} for file in FILES}
    for case in ElementTree.parse(report).iter("testcase"):
        problems = [f"{one.tag}: {one.text or one.get('message')}" for one in case]
        found[case.get("classname").split(".")[2]][case.get("name")] = "".join(problems)
    return found


def test_tunnels_and_esp_of_the_kernel(done):
    """One test, so that the kernel starts once, however tests are handed to processes."""
    assert done["test_mobileip_netns"] and not "".join(done["test_mobileip_netns"].values())
    assert len(done["esp"]) == 6 and not "".join(done["esp"].values())
