"""A remote engine's socket, brought here by the `ssh` program.

One connection carries all requests, each through a channel of its own (`ssh -L`). `ssh` heeds its own
configuration, agent and known hosts; the other machine needs an SSH server and the engine's socket.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from testbed.engine.api import EngineError

_REMOTE_SOCKET: Final = "/var/run/docker.sock"
_READY: Final = "testbed: connected"
_ENDS_WITHIN: Final = 10.0  # seconds
_OPTIONS: Final = (
    *("-T", "-o", "ExitOnForwardFailure=yes", "-o", "LogLevel=ERROR"),
    *("-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15", "-o", "ControlPath=none"),
)
# What a terminal or `timeout` sends to all is for this process, which still has labs to clear up. The folder
# goes when ssh does, whatever ends this process: the command over there ends with its input.
_SHELL: Final = 'trap "" INT QUIT TERM HUP; folder=$1; shift; "$@"; code=$?; rm -rf "$folder"; exit $code'


class SshTunnel:
    """A local socket that is the engine's at `address`: `ssh://[USER@]HOST[:PORT][/PATH/OF/SOCKET]`."""

    def __init__(self, address: str) -> None:
        """Connect. `ssh` may ask at the terminal. Raises `EngineError` with its last words."""
        try:
            url = urlsplit(address)
            host, port = url.hostname, url.port
        except ValueError as error:
            raise EngineError(f"{address}: {error}", hint="ssh://USER@HOST:PORT") from error
        if not host or host.startswith("-"):
            raise EngineError(f"{address} names no host", hint="ssh://USER@HOST:PORT")
        folder = Path(tempfile.mkdtemp(prefix="testbed-ssh-"))
        self.socket = folder / "engine.sock"
        """Where the engine is to be reached."""
        remote = url.path.rstrip("/") or _REMOTE_SOCKET
        target = [*(["-p", str(port)] if port else []), f"{url.username}@{host}" if url.username else host]
        command = ["ssh", *_OPTIONS, "-L", f"{self.socket}:{remote}", *target, f"echo '{_READY}'; exec cat"]
        self._process = subprocess.Popen(
            ["sh", "-c", _SHELL, "sh", str(folder), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        # A shell over there may print something of its own first.
        if not any(line.rstrip() == _READY.encode() for line in self._process.stdout):
            raise EngineError(
                f"no container engine answers at {address}: {self.close() or 'ssh has ended'}",
                hint=f"this has to work: ssh {shlex.join(target)} true",
            )

    def close(self) -> str:
        """End the connection; return the last line of what `ssh` complained about."""
        process = self._process
        assert process.stdin and process.stdout and process.stderr
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stdout.close()
        try:
            process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with process.stderr as complaints:
            lines = complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""
