"""Traffic through the lab while the mobile node moves: the numbered probe and the TCP session."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from testbed.agreed import READY
from testbed.claim.probe import ProbeReport
from testbed.engine.api import ExecSession
from testbed.errors import StepError
from testbed.lab.access import LabAccess

START_WITHIN = 5.0
STOP_WITHIN = 10.0


class Program:
    """A program in a node that speaks JSON lines and takes commands on its standard input."""

    def __init__(self, lab: LabAccess, node: str, command: Sequence[str]) -> None:
        self._lab, self._node, self._command = lab, node, command
        self._news = threading.Condition()
        self._messages: list[dict[str, Any]] = []
        self._errors = b""
        self._session: ExecSession | None = None
        self._ended = False

    def start(self, event: str, within: float) -> None:
        """Start it and wait for an event. Raises `StepError`."""
        threading.Thread(target=self._run, daemon=True).start()
        if self.wait(event, within) is None:
            lines = self._errors.decode(errors="replace").strip().splitlines()
            last = self.all("closed")
            why = lines[-1] if lines else last[-1].get("reason") if last else "silence"
            self.stop(1.0)
            raise StepError(f"{self._node}: {' '.join(self._command[2:4])} does not start: {why}")

    def _run(self) -> None:
        buffer = b""
        try:
            with self._lab.session(self._node, self._command, stdin=True) as session:
                self._session = session
                for stream, data in session:
                    if stream == "stderr":
                        self._errors += data
                        continue
                    *lines, buffer = (buffer + data).split(b"\n")
                    with self._news:
                        self._messages += [json.loads(line) for line in lines]
                        self._news.notify_all()
        except Exception as error:
            self._errors += f"\n{error}".encode()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait(self, event: str, within: float, *, after: int = 0) -> dict[str, Any] | None:
        """The first message with this event after the first `after` messages; None in vain."""

        def found() -> dict[str, Any] | None:
            return next((one for one in self._messages[after:] if one.get("event") == event), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._ended, within)
            return found()

    def tell(self, line: str) -> int:
        """Send a command; returns how many messages came before."""
        with self._news:
            before = len(self._messages)
        if self._session:
            self._session.send(line.encode() + b"\n")
        return before

    def stop(self, within: float = STOP_WITHIN) -> None:
        """Ask it to stop, and wait for its end."""
        self.tell("stop")
        with self._news:
            ended = self._news.wait_for(lambda: self._ended, within)
        if not ended and self._session:
            self._session.close()

    def all(self, event: str) -> list[dict[str, Any]]:
        """Every message with this event."""
        with self._news:
            return [one for one in self._messages if one.get("event") == event]


class Probe:
    """The running probe: a sender on the mobile node, a reflector on the correspondent node."""

    def __init__(
        self, lab: LabAccess, source: str, correspondent: str, address: str, port: int, every: float
    ) -> None:
        python = ["python3", "-m", "testbed.node.probe"]
        self._reflector = Program(lab, correspondent, [*python, "reflect", "--port", str(port)])
        self._sender = Program(
            lab,
            lab.mobile_node,
            [
                *python,
                "send",
                "--source",
                source,
                "--to",
                address,
                "--port",
                str(port),
                "--every",
                f"{every:g}",
            ],
        )
        self._every = every / 1000
        self._report: ProbeReport | None = None

    def start(self) -> None:
        """Start both ends."""
        self._reflector.start(READY, START_WITHIN)
        self._sender.start(READY, START_WITHIN)

    @property
    def late(self) -> float:
        """How late its timer was in ms, at most; known once it has stopped."""
        return self._report.late if self._report else 0.0

    def stop(self) -> ProbeReport:
        """Stop both ends and say what they saw. Raises `StepError` if one of them did not say."""
        if self._report is None:
            self._sender.stop()
            self._reflector.stop()
            sender = self._sender.all("sent") + self._sender.all("returned")
            reflector = self._reflector.all("reflected")
            if not self._sender.all("sent") or not reflector:
                raise StepError("an end of the probe ended without a report")
            self._report = ProbeReport.read(self._every, sender, reflector)
        return self._report

    def discard(self) -> None:
        """Stop both ends, whether they say what they saw or not."""
        with suppress(StepError):
            self.stop()


class TcpSession:
    """The running TCP session from the mobile node's home address to a correspondent node's echo service."""

    def __init__(self, lab: LabAccess, source: str, address: str) -> None:
        command = ["python3", "-m", "testbed.node.session", "--source", source, "--to", address]
        self._program = Program(lab, lab.mobile_node, command)

    def start(self) -> None:
        """Connect and see the first line come back."""
        self._program.start("connected", START_WITHIN)

    def check(self, within: float) -> dict[str, Any]:
        """Whether data written now comes back: the program's answer with `alive`."""
        before = self._program.tell(f"check {within:g}")
        answer = self._program.wait("check", within + 2, after=before)
        if answer is None:
            closed = self._program.all("closed")
            if closed:
                return {"alive": False, **closed[-1]}
            raise StepError("the session's program does not answer")
        return answer

    def stop(self) -> None:
        """Close it."""
        self._program.stop()
