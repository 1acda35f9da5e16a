"""Programs that tests run in nodes: the tools of the field are there, and not where the tests run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

from testbed.engine.api import Engine

WITHIN = 20.0  # seconds for a program to do what it was told


@dataclass(frozen=True)
class Done:
    """How a program ended."""

    stdout: str
    stderr: str
    returncode: int


def execute(engine: Engine, node: str, *command: str) -> Done:
    """Run a program in a node (a container's id) to its end."""
    output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    with engine.execute(node, command) as session:
        for stream, data in session:
            output[stream].append(data)
        code = session.exit_code()
    return Done(b"".join(output["stdout"]).decode(), b"".join(output["stderr"]).decode(), code)


class Program:
    """A program that runs in a node, and what it has written so far."""

    def __init__(self, engine: Engine, node: str, *command: str) -> None:
        # The shell says its process id, which is the program's, on the first line.
        self._session = engine.execute(node, ["sh", "-c", 'echo $$; exec "$@"', "sh", *command], stdin=True)
        self._kill = lambda pid, number: execute(engine, node, "kill", f"-{number}", str(pid))
        self._news = threading.Condition()
        self.stdout, self.stderr = bytearray(), bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.until(lambda: b"\n" in self.stdout)
        self._head = self.stdout.index(b"\n") + 1
        self.pid = int(self.stdout[: self._head])

    def _read(self) -> None:
        for stream, data in self._session:
            with self._news:
                (self.stdout if stream == "stdout" else self.stderr).extend(data)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def until(self, condition: Callable[[], bool], timeout: float = WITHIN) -> bool:
        """Wait for output that fulfils a condition; says whether it came."""
        with self._news:
            return self._news.wait_for(lambda: condition() or not self.running, timeout) and condition()

    @property
    def running(self) -> bool:
        return self._reader.is_alive()

    @property
    def output(self) -> bytes:
        return bytes(self.stdout[self._head :])

    @property
    def lines(self) -> list[str]:
        """The lines it has written to stdout."""
        return self.output[: self.output.rfind(b"\n") + 1].decode().splitlines()

    def send(self, text: str) -> None:
        """Write to its stdin."""
        self._session.send(text.encode())

    def says(self, text: str, answer: str) -> bool:
        """Write a line to its stdin; whether the next line of stdout is `answer`."""
        before = len(self.lines)
        self.send(text + "\n")
        return self.until(lambda: len(self.lines) > before) and self.lines[before] == answer

    def send_signal(self, number: int) -> None:
        self._kill(self.pid, number)

    def wait(self, timeout: float = WITHIN) -> int:
        """Wait for its end; returns its exit code."""
        self._reader.join(timeout)
        assert not self.running, f"still running: {self.output!r} {bytes(self.stderr)!r}"
        return self._session.exit_code()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.send_signal(number)
        return self.wait()

    def close(self) -> None:
        if self.running:
            self.send_signal(signal.SIGKILL)
            self.wait()
        self._session.close()
