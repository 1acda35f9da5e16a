"""What the machine lacks, installed through its package manager: Docker Engine, tools of builds and tests.

Nothing is installed unless this process may: `./tb` and `doctor --fix` allow it. Each thing is named before
it is installed, and nothing is touched where all is there.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from testbed.engine.api import EngineError
from testbed.engine.connect import connect
from testbed.engine.docker import DockerEngine
from testbed.engine.place import choose_place
from testbed.errors import MachineError

ALLOWED: Final = "TESTBED_INSTALL"  # set to 1 in the environment: this process may install things

_ENGINE_PACKAGES: Final = ("docker.io", "iptables")
_ENGINE_LOG: Final = Path("/var/log/testbed-dockerd.log")
_ENGINE_WITHIN: Final = 60.0  # seconds from starting the daemon to its first answer
_INSTALL_WITHIN: Final = 900.0  # seconds

Say = Callable[[str], None]


def allow() -> None:
    """Let this process and its children install things."""
    os.environ[ALLOWED] = "1"


def allowed() -> bool:
    """Say whether this process may install things."""
    return os.environ.get(ALLOWED) == "1"


def reach_engine(say: Say) -> DockerEngine:
    """Connect to the engine; where none answers and this process may, install and start one first.

    Raises `EngineError` with the command that helps.
    """
    try:
        return connect()
    except EngineError as error:
        if "Permission denied" in str(error.__cause__) or choose_place().chosen_by:
            raise  # there is an engine, only not for this user; or it is to be another than this machine's
        if not (allowed() and os.geteuid() == 0):
            raise EngineError(error.message, hint=_engine_command()) from error
    if shutil.which("dockerd") is None:
        packages = list(_ENGINE_PACKAGES)
        if _needs_apparmor_parser():
            packages.append("apparmor")
        install(packages, say, why="no container engine answers")
    return _start_engine(say)


def require(program: str, packages: Sequence[str], say: Say, *, why: str) -> None:
    """Make sure that a program (or a file, by its path) is there; install it if this process may.

    Raises `MachineError`.
    """
    if Path(program).exists() if program.startswith("/") else shutil.which(program):
        return
    if not (allowed() and os.geteuid() == 0):
        raise MachineError(f"{program} is missing: it {why}", hint=apt_command(packages))
    install(packages, say, why=f"{program} is missing: it {why}")


def apt_command(packages: Sequence[str]) -> str:
    """Return the command that installs packages, for people."""
    return f"{_sudo()}apt-get install --no-install-recommends {' '.join(packages)}"


def install(packages: Sequence[str], say: Say, *, why: str) -> None:
    """Install Debian packages. Raises `MachineError` with apt's last words."""
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise MachineError(
            f"{why}, and there is no apt-get here", hint=f"install the packages that Debian calls {names}"
        )
    say(f"{why}: installing {names} with apt-get")
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    if _apt(command).returncode == 0:
        return
    say("apt-get knows no such package or an outdated one: updating its lists")
    _apt(["apt-get", "update", "--quiet"])  # may fail in part, for a source that does not matter here
    result = _apt(command)
    if result.returncode:
        last = "\n  ".join(result.stdout.strip().splitlines()[-5:])
        raise MachineError(f"apt-get could not install {names}:\n  {last}", hint=apt_command(packages))


def _apt(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_INSTALL_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MachineError(
            f"apt-get {command[1]} has not ended after {_INSTALL_WITHIN:g} s, and was ended",
            hint=f"by hand: {_sudo()}{shlex.join(command)}",
        ) from error


def _start_engine(say: Say) -> DockerEngine:
    daemon: subprocess.Popen[bytes] | None = None
    if _systemd():
        say("starting Docker Engine: systemctl start docker")
        subprocess.run(["systemctl", "start", "docker"], stdin=subprocess.DEVNULL, check=False)
    else:
        say(f"starting Docker Engine: dockerd (log {_ENGINE_LOG}, process id in /var/run/docker.pid)")
        with _ENGINE_LOG.open("ab") as log:
            daemon = subprocess.Popen(
                ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
    deadline = time.monotonic() + _ENGINE_WITHIN
    while True:
        # A daemon that ends at once may have found another one, which the package started.
        ended = daemon is not None and daemon.poll() is not None
        try:
            return connect()
        except EngineError as error:
            if time.monotonic() > deadline or (ended and not _engine_process()):
                raise EngineError(
                    "Docker Engine was started but does not answer",
                    hint=f"its last words:\n  {_last_words()}",
                ) from error
        time.sleep(0.2)


def _engine_process() -> bool:
    try:
        return Path("/proc", Path("/var/run/docker.pid").read_text(encoding="ascii").strip(), "stat").exists()
    except OSError:
        return False


def _last_words() -> str:
    if _systemd():
        return "journalctl --unit docker shows them"
    return "\n  ".join(_ENGINE_LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])


def _engine_command() -> str:
    """Return what to do about a missing engine by hand."""
    if shutil.which("dockerd") is not None:
        return f"start it: {_sudo()}{'systemctl start docker' if _systemd() else 'dockerd'}"
    if shutil.which("apt-get") is None:
        return "install Docker Engine: https://docs.docker.com/engine/install/"
    if os.geteuid() == 0:
        return "testbed doctor --fix installs and starts one"
    return (
        f"{apt_command(_ENGINE_PACKAGES)} && sudo usermod --append --groups docker $USER, then log in again"
    )


def _systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _needs_apparmor_parser() -> bool:
    try:
        enabled = Path("/sys/module/apparmor/parameters/enabled").read_text(encoding="ascii").startswith("Y")
    except OSError:
        return False
    return enabled and shutil.which("apparmor_parser") is None


def _sudo() -> str:
    return "" if os.geteuid() == 0 else "sudo "
