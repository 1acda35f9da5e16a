import os
from pathlib import Path

import pytest

from testbed.engine import provision
from testbed.engine.api import EngineError
from testbed.errors import MachineError


class Machine:
    """A machine made of shell scripts that write down that they were called."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.log = folder / "log"
        self.log.touch()
        self.said: list[str] = []
        self.answers = False

    def program(self, name: str, script: str = "true") -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{script}\n')
        path.chmod(0o755)

    def which(self, name):
        return str(self.bin / name) if (self.bin / name).exists() else None

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()

    def connect(self):
        """An engine answers once its daemon was started."""
        if not self.answers and not any(call.startswith("dockerd") for call in self.calls()):
            raise EngineError("no container engine answers at unix:///x") from OSError("No such file")
        return "engine"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{machine.bin}:/usr/bin:/bin")
    monkeypatch.setenv(provision.ALLOWED, "0")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(provision.shutil, "which", machine.which)
    monkeypatch.setattr(provision, "connect", machine.connect)
    monkeypatch.setattr(provision, "_ENGINE_LOG", tmp_path / "dockerd.log")
    monkeypatch.setattr(provision, "_systemd", lambda: False)
    monkeypatch.setattr(provision, "_needs_apparmor_parser", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return machine


def test_where_an_engine_answers_nothing_is_touched(machine):
    machine.answers = True
    provision.allow()
    assert provision.reach_engine(machine.said.append) == "engine"
    assert machine.calls() == machine.said == []


def test_a_bare_machine_gets_one_and_is_told_first(machine):
    provision.allow()
    dockerd = machine.bin / "dockerd"
    machine.program("apt-get", f"sed 's/apt-get/dockerd/; 3,$d' $0 > {dockerd}; chmod +x {dockerd}")
    assert provision.reach_engine(machine.said.append) == "engine"
    install, start = machine.calls()
    assert install.startswith("apt-get install") and install.endswith("docker.io iptables")
    assert start.strip() == "dockerd"
    assert "docker.io iptables" in machine.said[0] and "dockerd" in machine.said[1]


def test_one_that_is_installed_is_only_started(machine):
    provision.allow()
    machine.program("dockerd")
    machine.program("apt-get")
    assert provision.reach_engine(machine.said.append) == "engine"
    assert [call.split()[0] for call in machine.calls()] == ["dockerd"]


def test_systemd_starts_it_where_it_runs(machine, monkeypatch):
    monkeypatch.setattr(provision, "_systemd", lambda: True)
    provision.allow()
    machine.program("dockerd")
    machine.program("systemctl", f"echo dockerd >> {machine.log}")
    assert provision.reach_engine(machine.said.append) == "engine"
    assert machine.calls()[0] == "systemctl start docker"


def test_a_daemon_that_dies_is_reported_with_its_last_words(machine, monkeypatch):
    provision.allow()

    def connect():
        raise EngineError("none")

    monkeypatch.setattr(provision, "connect", connect)
    monkeypatch.setattr(provision, "_engine_process", lambda: False)
    machine.program("dockerd", "echo cannot mount cgroups; exit 1")
    with pytest.raises(EngineError) as caught:
        provision.reach_engine(machine.said.append)
    assert "cannot mount cgroups" in caught.value.hint


@pytest.mark.parametrize("user", [0, 1000])
def test_without_leave_to_install_the_command_is_named(machine, monkeypatch, user):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    machine.program("apt-get")
    if user:
        provision.allow()  # of no use to him
    with pytest.raises(EngineError) as caught:
        provision.reach_engine(machine.said.append)
    assert machine.calls() == [] and caught.value.exit_code == 3
    expected = "sudo apt-get install --no-install-recommends docker.io iptables" if user else "doctor --fix"
    assert expected in caught.value.hint


def test_an_engine_elsewhere_is_never_replaced(machine, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2376")
    provision.allow()
    machine.program("apt-get")
    with pytest.raises(EngineError, match="no container engine"):
        provision.reach_engine(machine.said.append)
    assert machine.calls() == []


def test_an_engine_for_others_is_not_replaced(machine, monkeypatch):
    def connect():
        raise EngineError("no container engine answers", hint="groups") from OSError("Permission denied")

    monkeypatch.setattr(provision, "connect", connect)
    provision.allow()
    with pytest.raises(EngineError) as caught:
        provision.reach_engine(machine.said.append)
    assert caught.value.hint == "groups"


def test_lists_are_updated_when_a_package_is_unknown(machine, tmp_path):
    provision.allow()
    machine.program("apt-get", f'[ "$1" = update ] && touch {tmp_path}/updated; [ -e {tmp_path}/updated ]')
    provision.require("tshark", ["tshark"], machine.said.append, why="decodes")
    assert [call.split()[1] for call in machine.calls()] == ["install", "update", "install"]


def test_what_apt_cannot_install_is_an_error_in_its_words(machine):
    provision.allow()
    machine.program("apt-get", "echo E: Unable to locate package; exit 100")
    with pytest.raises(MachineError, match="Unable to locate package"):
        provision.require("tshark", ["tshark"], machine.said.append, why="decodes")


def test_an_apt_that_hangs_is_an_error(machine, monkeypatch):
    monkeypatch.setattr(provision, "_INSTALL_WITHIN", 0.2)
    provision.allow()
    machine.program("apt-get", "exec sleep 60")
    with pytest.raises(MachineError, match=r"apt-get install has not ended after 0\.2 s") as caught:
        provision.require("tshark", ["tshark"], machine.said.append, why="decodes")
    assert "apt-get install --yes --quiet --no-install-recommends tshark" in caught.value.hint


def test_a_program_that_is_there_is_left_alone(machine):
    machine.program("tshark")
    provision.require("tshark", ["tshark"], machine.said.append, why="decodes")
    assert machine.calls() == machine.said == []
