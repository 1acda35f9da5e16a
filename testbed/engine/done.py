"""What a command in a container ended with."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.engine.api import ExecSession


@dataclass(frozen=True, slots=True)
class Done:
    """What a command in a node ended with."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.out.decode(errors="replace")

    @property
    def complaint(self) -> str:
        """The last line of standard error, for messages."""
        lines = self.err.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.code}"


def collect(session: ExecSession, stdin: bytes | None = None) -> Done:
    """Feed a command its input, if it has one, and read its output to the end. Raises `EngineError`."""
    if stdin is not None:
        session.send(stdin)
        session.end_input()
    out, err = bytearray(), bytearray()
    for stream, data in session:
        (out if stream == "stdout" else err).extend(data)
    return Done(session.exit_code(), bytes(out), bytes(err))
