"""Talking to the daemons inside nodes: JSON lines over their control sockets, through the engine's exec."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

from testbed.engine import names
from testbed.engine.api import Container, Engine
from testbed.errors import TestbedError

SOCKETS = "/run/testbed"
_ANSWERS = 10.0  # seconds in which a service answers, if it does at all

_ASK_ALL = f"""\
for socket in {SOCKETS}/*.sock; do
    [ -S "$socket" ] || continue
    name=${{socket##*/}}
    printf '{{"service":"%s","reply":' "${{name%.sock}}"
    reply=$(echo '{{"op":"state"}}' | socat -t 3 - "UNIX-CONNECT:$socket")
    printf '%s}}\\n' "${{reply:-null}}"
done
for note in {SOCKETS}/impairments/*.json; do
    [ -e "$note" ] || continue
    printf '{{"service":"netem on %s","reply":%s}}\\n' "$(basename "$note" .json)" "$(cat "$note")"
done
[ ! -d /sys/class/net/ipsec0 ] || echo '{{"service":"esp","reply":{{"ok":true,"backend":"kernel-libipsec"}}}}'
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
    ends by itself. Raises `TestbedError` when nobody answers
    or the answer is an error.
    """
    node = container.labels.get(names.NODE, container.name)
    bound = ["-T", f"{quiet:g}"] if quiet else []
    command = ["socat", *bound, "-", f"UNIX-CONNECT:{SOCKETS}/{service}.sock"]
    answered = False
    with engine.execute(container.id, command, stdin=True) as session:
        session.send(json.dumps(request).encode() + b"\n")
        rest, complaint = b"", b""
        for stream, data in session:
            if stream == "stderr":
                complaint += data
                continue
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                message = _message(line, node, service)
                if not answered and not message.get("ok"):
                    raise TestbedError(f"{service} on {node}: {message.get('error', 'no reason given')}")
                answered = True
                yield message
    if not answered:
        why = complaint.decode(errors="replace").strip() or "it hung up"
        raise TestbedError(f"{service} on {node} does not answer: {why}")


def ask(engine: Engine, container: Container, service: str, request: Mapping[str, object]) -> dict[str, Any]:
    """Send one request to a service of a node and return its answer. Raises `TestbedError`."""
    with closing(converse(engine, container, service, request, quiet=_ANSWERS)) as messages:
        return next(messages)


def ask_all(engine: Engine, container: Container) -> dict[str, dict[str, Any] | None]:
    """Return the state of every service of a node that has a control socket; None where one does not answer.

    Two are no services: `esp` says what carries ESP packets, on a node that does IPsec; `netem on NETWORK`
    what the kernel does to the packets that the node sends on a network without a hub.
    """
    with engine.execute(container.id, ["sh", "-c", _ASK_ALL]) as session:
        output = b"".join(data for stream, data in session if stream == "stdout")
    states: dict[str, dict[str, Any] | None] = {}
    for line in output.splitlines():
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
        raise TestbedError(f"{service} on {node} sent no JSON: {line[:200]!r}")
    return message
