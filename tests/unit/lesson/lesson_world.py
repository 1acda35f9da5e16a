"""A learner's lab on the engine in memory: a mobile node, its agents, and a lesson about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

from testbed.engine.fake import FakeContainer, FakeEngine

IMAGE = "testbed-node:test"

TOPOLOGY = """\
name: walk
title: A foreign agent and a home agent
options:
  stack: {default: mip-only, choices: [mip-only], help: No IPsec}
  attach: {default: home, choices: [hotspot, home]}
networks:
  internet: {subnet: 203.0.113.0/24, domain: internet}
  hotspot: {subnet: 198.51.100.0/26, domain: internet, medium: wireless}
  home: {subnet: 192.0.2.0/24, domain: operator}
nodes:
  fa-hotspot:
    roles: [router, foreign-agent]
    links: {internet: 203.0.113.10, hotspot: 198.51.100.1}
    settings: {visited: hotspot, care-of: internet}
  ha:
    roles: [router, home-agent]
    links: {internet: 203.0.113.40, home: 192.0.2.1}
    settings: {home-network: home}
  cn:
    roles: [correspondent]
    links: {home: 192.0.2.10}
  mn:
    roles: [mobile-node]
    attaches: [hotspot, home]
    settings: {home-agent: ha, home-address: 192.0.2.100, probe: cn}
"""

LESSON = """\
number: 1
title: A walk
goal: You can walk.
minutes: 10
section: RFC 5944 §1.7
topology: ./walk.yaml
start: [{move: home}]
tasks:
  - title: Go out
    text: Walk to the hotspot of LAB.
    checks:
      - expect: {binding: {present: true}}
        missing: The home agent LAB knows of no walk.
      - answer:
          question: Where are you?
          is: address
          from: {state: {node: ha, service: home-agent, field: bindings.0.care_of_addresses.0}}
        missing: Look at the home agent.
    hints: [first, second]
    solution: [{move: hotspot}]
    explain: You were out.
  - title: Edit
    text: Edit the file.
    checks:
      - changed: {node: ha, file: /etc/mobileip/home-agent.toml, line: ^lifetime = 10$}
        missing: The limit is what it was.
    hints: [first]
    solution:
      - run: {node: ha, command: edit}
    explain: You have edited.
learned: You have walked.
"""


def write_lesson(folder: Path, text: str = LESSON) -> Path:
    """A folder with a lesson and its topology."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lesson.yaml").write_text(text)
    (folder / "walk.yaml").write_text(TOPOLOGY)
    (folder / "text.md").write_text("Welcome to LAB.\n")
    return folder


class Nodes:
    """What runs in the nodes: `FakeEngine.command`."""

    def __init__(self) -> None:
        self.network: str | None = None
        self.edited: dict[tuple[str, str], str] = {}

    def __call__(self, box: FakeContainer, command: Sequence[str], stdin: bytes) -> tuple[bytes, bytes, int]:
        """Carry out a command."""
        if command[0] == "timeout":
            command = command[3:]
        node, program = box.spec.hostname, PurePosixPath(command[0]).name
        out, code = "", 0
        match program:
            case "socat":
                out = self._asked(box, PurePosixPath(command[-1]).stem, json.loads(stdin))
            case "testbed-drift":
                edited = [path for where, path in self.edited if where == node]
                out = "".join(f"edited {path}\n" for path in edited) + f"now {box.clock():.9f}"
            case "ping":
                out = "rtt min/avg/max/mdev = 1.0/1.0/1.0/0.1 ms"
            case "cat":
                out, code = self._file(box, command[1])
            case "sh" if command[-1].startswith("date"):
                out = f"{box.clock():.9f}"
            case "sh" if command[-1] == "edit":
                file = "/etc/mobileip/home-agent.toml"
                text, _ = self._file(box, file)
                self.edited[node, file] = text.replace("lifetime = 600", "lifetime = 10")
        return out.encode(), b"", code

    def _file(self, box: FakeContainer, path: str) -> tuple[str, int]:
        try:
            return self.edited.get((box.spec.hostname, path)) or box.file(path), 0
        except KeyError:
            return "", 1

    def _asked(self, box: FakeContainer, service: str, request: dict[str, Any]) -> str:
        op = request["op"]
        away = self.network == "hotspot"
        state: dict[str, Any] = {"state": "registered", "network": self.network, "timeline": {"data": 1.0}}
        events: list[dict[str, Any]] = []
        if service == "roam" and op == "forget":
            self.network = None
            box.event("detached", "mobile-node")
        if service == "roam" and op == "move":
            self.network = request["network"]
            box.event("move-started", "roam")
            box.event("settled", "roam", state="registered", detail="there", timeline={"data": 1.0})
        if service == "home-agent":
            bindings = [{"home_address": "192.0.2.100", "care_of_addresses": ["203.0.113.10"]}]
            state = {"bindings": bindings if away else [], "counters": {}}
        if service == "foreign-agent":
            state = {"visitors": [], "pending": [], "counters": {}}
        return "".join(json.dumps(line) + "\n" for line in ({"ok": True, **state}, *events))


def around(engine: FakeEngine, monkeypatch: Any) -> None:
    """Let commands find the engine in memory, and its image."""
    monkeypatch.setattr("testbed.engine.connect.connect", lambda: engine)
    monkeypatch.setattr("testbed.engine.provision.reach_engine", lambda say: engine)
    image = SimpleNamespace(name=IMAGE)
    monkeypatch.setattr("testbed.engine.image.ensure_node_image", lambda engine, say, **options: image)
    monkeypatch.setattr("testbed.lab.down._STRAGGLERS", 0.0)
