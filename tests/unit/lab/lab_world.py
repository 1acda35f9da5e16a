from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Self

from testbed.engine.fake import FakeContainer

IMAGE = "testbed-node:test"

Run = Callable[..., tuple[int, str, str]]
"""Runs a command; returns its exit code and what it printed on stdout and stderr."""

MIP = "./mip.yaml"
"""The file of `MOBILE` in the folder where commands run."""

SMALL = """\
name: small
title: Two hosts and a router
networks:
  left: {subnet: 10.1.0.0/24, domain: internet}
  right: {subnet: 10.2.0.0/24, domain: internet}
nodes:
  west: {roles: [correspondent], links: {left: 10.1.0.2}}
  east: {roles: [correspondent], links: {right: 10.2.0.2}}
  middle: {roles: [router], links: {left: 10.1.0.1, right: 10.2.0.1}}
"""

PLACED = f"{SMALL}place: {{west: a, east: b, middle: b}}\n"

# A topology with a mobile node, which stays as it is whatever becomes of those that come with the product.
MOBILE = """\
name: plain-mip
title: A foreign agent, a DHCP server and a home agent
options:
  stack: {default: mip-only, choices: [mip-only], help: No IPsec}
  attach: {default: hotspot, choices: [hotspot, hotel, home]}

networks:
  internet: {subnet: 203.0.113.0/24, domain: internet, hub: core, delay: 10ms}
  hotspot: {subnet: 198.51.100.0/26, domain: internet, medium: wireless}
  hotel: {subnet: 198.51.100.64/26, domain: internet, medium: wireless}
  home: {subnet: 192.0.2.0/24, domain: operator}

nodes:
  core:
    roles: [router, hub]
    links: {internet: 203.0.113.1}
  fa-hotspot:
    roles: [router, foreign-agent]
    links: {internet: 203.0.113.10, hotspot: 198.51.100.1}
    settings: {visited: hotspot, care-of: internet}
  hotel-router:
    roles: [router, dhcp-server]
    links: {internet: 203.0.113.20, hotel: 198.51.100.65}
    settings: {dhcp-pool: 198.51.100.70-198.51.100.120}
  ha:
    roles: [router, home-agent]
    links: {internet: 203.0.113.40, home: 192.0.2.1}
    settings: {home-network: home}
  cn:
    roles: [correspondent]
    links: {home: 192.0.2.10}
  mn:
    roles: [mobile-node]
    attaches: [hotspot, hotel, home]
    settings: {home-agent: ha, home-address: 192.0.2.100, probe: cn}
"""


@dataclass
class Daemons:
    """What runs in the nodes of a healthy lab: `FakeEngine.command`, with knobs for what is not healthy."""

    round_trip: float = 500.0  # ms that pings take
    reached: bool = True  # whether the correspondent answers the mobile node
    roam: dict[str, Any] = field(
        default_factory=lambda: {
            "state": "registered", "network": "hotspot", "detail": "through it", "timeline": {"data": 30.0},
        }
    )  # fmt: skip
    relay: dict[str, Any] = field(
        default_factory=lambda: {"backend": "relay", "delay_ms": 10, "jitter_ms": 0, "loss": 0, "rate": 0}
    )
    drift: dict[str, str] = field(default_factory=dict)  # node → what `testbed-drift` prints
    asked: list[tuple[str, str]] = field(
        default_factory=list
    )  # node, op of a request or program of a command
    files: dict[tuple[str, str], str] = field(default_factory=dict)  # what was written
    live: dict[str, str] = field(default_factory=dict)  # node → what it was given while it ran

    def __call__(self, box: FakeContainer, command: Sequence[str], stdin: bytes) -> tuple[bytes, bytes, int]:
        """Carry out a command."""
        node = box.spec.hostname
        program = PurePosixPath(command[0]).name
        if program == "socat":
            return self._answer(node, PurePosixPath(command[-1]).stem, json.loads(stdin)), b"", 0
        self.asked.append((node, program if program != "sv" else " ".join(command[:2])))
        if program == "ping":
            out = f"rtt min/avg/max/mdev = {self.round_trip}/{self.round_trip}/{self.round_trip}/0.1 ms"
            return out.encode(), b"", 0 if self.reached else 1
        if program == "testbed-drift":
            lines = [*self.drift.get(node, "").splitlines(), f"now {box.clock():.9f}"]
            return "\n".join(lines).encode(), b"", 0
        if program == "cat":
            text = self.files.get((node, command[1]))
            return (text or "").encode(), b"", 0 if text else 1
        if tuple(command[:3]) == ("python3", "-m", "testbed.node.impair"):
            values = dict(word.removeprefix("--").replace("-", "_").split("=") for word in command[4:])
            self.files[node, f"/run/testbed/impairments/{command[3]}.json"] = json.dumps(values)
        if program == "sh" and command[-1].startswith("head -c"):
            self.live[node] = stdin.decode()
        if program == "sh" and (written := command[2].partition("cat >")[2]):
            self.files[node, written] = stdin.decode()
        return b"", b"", 0

    def _answer(self, node: str, service: str, request: dict[str, Any]) -> bytes:
        op = request.pop("op")
        self.asked.append((node, op))
        state = self.relay if service == "relay" else self.roam
        if op == "set":
            self.relay |= request
        events = []
        if op == "repair":
            self.reached = True
            events = [
                {"event": "settled", "state": "registered", "detail": "again", "timeline": {"data": 9.0}}
            ]
        return b"".join(json.dumps(line).encode() + b"\n" for line in ({"ok": True, **state}, *events))


@dataclass
class Told:
    """A `Progress` that remembers."""

    said: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    when_shown: Callable[[str], None] = lambda text: None

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, text: str) -> None:
        self.shown.append(text)
        self.when_shown(text)


class EndingSession:
    """A command that is told to end by its input, or by being closed; a subclass says what it prints."""

    def __init__(self, code: int = 0) -> None:
        self.ended = threading.Event()
        self.code = code

    def end_input(self) -> None:
        self.ended.set()

    def close(self) -> None:
        self.ended.set()

    def exit_code(self) -> int:
        return self.code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Manager(Daemons):
    """A healthy lab whose mobile node moves when it is told to, and a few commands."""

    lost = False  # whether the mobile node has lost its registration

    def __call__(self, box: FakeContainer, command: Sequence[str], stdin: bytes) -> tuple[bytes, bytes, int]:
        state = "unregistered" if self.lost else "registered"
        roam = {"ok": True, "network": "hotspot", "state": state, "agent": "198.51.100.1"}
        if command[:2] == ("sh", "-c") and ".sock" in command[2] and box.spec.hostname == "mn":
            return json.dumps({"service": "roam", "reply": roam}).encode() + b"\n", b"", 0
        if command[0] == "socat" and json.loads(stdin)["op"] == "move":
            return _move(json.loads(stdin)["network"]), b"", 0
        if command[0] == "env" and "false" in command:
            return b"out\n", b"err\n", 7
        return super().__call__(box, command, stdin)


def _move(network: str) -> bytes:
    timeline = {"link": 3.25, "address": 9.5, "ike": None, "registration": 20.0, "data": 22.0}
    state = "unregistered" if network == "home" else "registered"
    events: list[dict[str, Any]] = [
        {"ok": True},
        {"event": "link", "source": "roam", "ms": 3.25},
        {"event": "settled", "source": "roam", "network": network, "state": state, "detail": "so it is",
         "stack": "mip-only", "ms": 22.5, "timeline": timeline},
    ]  # fmt: skip
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)
