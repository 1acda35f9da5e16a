"""The connection to a remote engine, with a program in the place of ssh."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.engine.api import EngineError
from testbed.engine.connect import connect
from testbed.engine.ssh import SshTunnel


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """Put a script in the place of ssh; returns the file that it writes its arguments to."""
    log = tmp_path / "called"

    def make(script):
        program = tmp_path / "ssh"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {log}\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return log

    return make


CONNECTS = 'echo Welcome; eval "$(for word; do :; done; printf \'%s\' "$word")"'  # runs its last argument


def test_one_connection_brings_the_socket_here(ssh):
    log = ssh(CONNECTS)
    tunnel = SshTunnel("ssh://me@lab.example:2222/run/user/7/podman.sock")
    words = log.read_text().splitlines()
    assert f"{tunnel.socket}:/run/user/7/podman.sock" in words
    assert words[words.index("-p") : words.index("-p") + 3] == ["-p", "2222", "me@lab.example"]
    folder = tunnel.socket.parent
    assert folder.stat().st_mode & 0o77 == 0
    assert tunnel.close() == "" and not folder.exists()


def test_the_usual_socket_and_sshs_own_user_and_port(ssh):
    log = ssh(CONNECTS)
    tunnel = SshTunnel("ssh://lab.example")
    tunnel.close()
    words = log.read_text().splitlines()
    assert f"{tunnel.socket}:/var/run/docker.sock" in words and "-p" not in words and "lab.example" in words


def test_what_ssh_complains_about_is_the_message(ssh):
    ssh('echo "me@lab.example: Permission denied (publickey)." >&2; exit 255')
    with pytest.raises(
        EngineError, match=r"ssh://me@lab.example:22: .*Permission denied \(publickey\)"
    ) as caught:
        SshTunnel("ssh://me@lab.example:22")
    assert caught.value.hint == "this has to work: ssh -p 22 me@lab.example true"


@pytest.mark.parametrize("address", ["ssh://", "ssh://lab:port", "ssh://-oProxyCommand=x"])
def test_an_address_that_names_no_host(address):
    with pytest.raises(EngineError) as caught:
        SshTunnel(address)
    assert caught.value.hint == "ssh://USER@HOST:PORT"


def test_an_engine_that_is_not_there(ssh, monkeypatch):
    ssh(f"echo 'channel 2: open failed: connect failed: No such file or directory' >&2; {CONNECTS}")
    monkeypatch.setenv("DOCKER_HOST", "ssh://lab.example")
    with pytest.raises(EngineError, match=r"engine answers at ssh://lab\.example") as caught:
        connect()
    assert "No such file or directory" in caught.value.hint


def test_it_ends_with_a_process_that_is_killed(ssh):
    """And what a terminal or `timeout` sends to all, ssh too, does not end it before."""
    ssh(CONNECTS)
    program = (
        "import signal, sys, time; from testbed.engine.ssh import SshTunnel;"
        "[signal.signal(each, lambda *_: None) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)];"
        "tunnel = SshTunnel('ssh://lab'); print(tunnel.socket.parent, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        folder = Path(process.stdout.readline().strip())
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.killpg(process.pid, each)
        time.sleep(0.3)
        assert folder.is_dir()
        process.kill()
    until = time.monotonic() + 10
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not folder.exists()
