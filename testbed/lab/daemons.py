"""Talking to the daemons inside nodes: JSON lines over their control sockets, through the engine's exec."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import Any, Final

from testbed.agreed import ESP_PLANE, FAILED, IMPAIRMENTS, Op, control_socket
from testbed.engine import names
from testbed.engine.api import Container, Engine, ExecSession
from testbed.errors import NotReadyError, TestbedError
from testbed.lab.inside import run_inside

_ANSWERS = 10.0  # seconds in which a service answers, if it does at all

CUT: Final = "link to "
"""What the names of links that failed begin with, among those of services."""

_ASK_ALL = f"""\
for socket in {control_socket("*")}; do
    [ -S "$socket" ] || continue
    name=${{socket##*/}}
    printf '{{"service":"%s","reply":' "${{name%.sock}}"
    reply=$(echo '{{"op":"{Op.STATE}"}}' | socat -t 3 - "UNIX-CONNECT:$socket")
    printf '%s}}\\n' "${{reply:-null}}"
done
for note in {IMPAIRMENTS}/*.json; do
    [ -e "$note" ] || continue
    printf '{{"service":"netem on %s","reply":%s}}\\n' "$(basename "$note" .json)" "$(cat "$note")"
done
for note in {FAILED}/*; do
    [ ! -e "$note" ] || printf '{{"service":"{CUT}%s","reply":{{"ok":true,"failed":true}}}}\n' "${{note##*/}}"
done
[ ! -e {ESP_PLANE} ] || echo '{{"service":"esp","reply":{{"ok":true,"backend":"'"$(cat {ESP_PLANE})"'"}}}}'
"""
"""One exec asks all services of a node: the exec is what costs, not the questions."""


def converse(
    engine: Engine,
    container: Container,
    service: str,
    request: Mapping[str, object],
    *,
    quiet: float | None = None,
) -> Generator[dict[str, Any]]:
    """Send one request to a service of a node and yield what it answers and sends after that, until it ends.

    The first message is the answer. Close the iterator to hang up; after `quiet` seconds without a message it
    ends by itself. Raises `TestbedError` when nobody answers or the answer is an error, `NotReadyError` when
    there is none in that time.
    """
    node = container.labels.get(names.NODE, container.name)
    with engine.execute(container.id, asking(service, quiet), stdin=True) as session:
        yield from Dialogue(session, node, service).ask(request, quiet)


def asking(service: str, quiet: float | None = None) -> list[str]:
    """The command that connects its streams to a service; it ends after `quiet` seconds without a message."""
    bound = ["-T", f"{quiet:g}"] if quiet else []
    return ["socat", *bound, "-", f"UNIX-CONNECT:{control_socket(service)}"]


class Dialogue:
    """Request after request over one session of `asking`."""

    def __init__(self, session: ExecSession, node: str, service: str) -> None:
        """`node` and `service` are for messages of errors."""
        self.session = session
        self.node, self.service = node, service
        self._frames = iter(session)
        self._rest = self._complaint = b""

    def ask(self, request: Mapping[str, object], within: float | None = None) -> Generator[dict[str, Any]]:
        """Send one request and yield the answer and what follows it. Raises `TestbedError` as `converse`.

        A session that ends without an answer after `within` seconds or more was ended because of the silence.
        """
        asked = time.monotonic()
        self.send(request)
        answered = False
        for message in self.listen():
            if not answered and not message.get("ok"):
                raise self.refused(request, message)
            answered = True
            yield message
        if answered:
            return
        if complaint := self._complaint.decode(errors="replace").strip():
            raise TestbedError(f"{self.service} of {self.node} does not answer: {complaint}")
        waited = time.monotonic() - asked
        if within is not None and waited >= within:
            raise NotReadyError(
                f"{self.service} of {self.node} did not answer within {waited:.3g} s: "
                "it hangs, or this machine is too busy"
            )
        raise TestbedError(f"{self.service} of {self.node} does not answer: it hung up")

    def send(self, request: Mapping[str, object]) -> None:
        """Send a request without waiting for anything; `listen` yields the answer."""
        self.session.send(json.dumps(request).encode() + b"\n")

    def listen(self) -> Iterator[dict[str, Any]]:
        """Yield answers and events until the session ends. Raises `TestbedError` for what is no JSON."""
        for line in self._lines():
            yield _message(line, self.node, self.service)

    def refused(self, request: Mapping[str, object], answer: Mapping[str, Any]) -> TestbedError:
        """The error that an answer to a request is."""
        why = answer.get("error", "no reason given")
        return TestbedError(f"{self.service} of {self.node} refuses {request['op']}: {why}")

    def _lines(self) -> Iterator[bytes]:
        while True:
            while b"\n" in self._rest:
                line, _, self._rest = self._rest.partition(b"\n")
                yield line
            frame = next(self._frames, None)
            if frame is None:
                return
            stream, data = frame
            if stream == "stderr":
                self._complaint += data
            else:
                self._rest += data


def ask(engine: Engine, container: Container, service: str, request: Mapping[str, object]) -> dict[str, Any]:
    """Send one request to a service of a node and return its answer. Raises as `converse`."""
    with closing(converse(engine, container, service, request, quiet=_ANSWERS)) as messages:
        return next(messages)


def ask_all(engine: Engine, container: Container) -> dict[str, dict[str, Any] | None]:
    """Return the state of every service of a node that has a control socket; None where one does not answer.

    Three are no services: `esp` says what carries ESP packets, on a node that does IPsec; `netem on NETWORK`
    what the kernel does to the packets that the node sends on a network without a hub; `link to NETWORK` that
    the link has failed.
    """
    states: dict[str, dict[str, Any] | None] = {}
    for line in run_inside(engine, container, ["sh", "-c", _ASK_ALL]).text.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue  # a service that was stopped in the middle of its answer
        reply = said["reply"]
        states[said["service"]] = reply if isinstance(reply, dict) and reply.get("ok") else None
    return states


def _message(line: bytes, node: str, service: str) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise TestbedError(f"{service} of {node} sent no JSON: {line[:200]!r}")
    return message
