"""What the plugin meets in tests of other projects: nodes that are played, and what was recorded there."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from struct import pack
from typing import Any

from testbed.engine.fake import FakeContainer
from testbed.packet.pcap import LINUX_SLL2, CaptureWriter, Frame

sys.path.append(str(Path(__file__).parents[1] / "lab"))
from lab_world import IMAGE, MOBILE, SMALL, Daemons

__all__ = ("IMAGE", "MOBILE", "SMALL", "Nodes", "recorded")

CLAIMS = (
    MOBILE
    + """
claims:
  one:
    says: At home the mobile node needs no binding
    source: RFC 5944 §1.1
    run: {steps: [{move: {to: home}}], expect: [{mobile-node: home}]}
    control: {steps: [{move: {to: hotel}}], expect: [{mobile-node: registered}]}
  two:
    says: Nor anywhere else
    source: nowhere
    run: {steps: [{move: {to: hotel}}], expect: [{mobile-node: home}]}
    control: {steps: [{move: {to: home}}], expect: [{mobile-node: home}]}
"""
)
TIMELINE = {"link": 1.0, "address": 2.0, "ike": None, "registration": 8.0, "data": 9.0}


class Nodes(Daemons):
    """Nodes that also move, forget, and have something recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.record = b""
        self.ran: list[tuple[str, Sequence[str]]] = []

    def __call__(self, box: FakeContainer, command: Sequence[str], stdin: bytes) -> tuple[bytes, bytes, int]:
        node = box.spec.hostname
        if command[0] == "timeout":
            command = command[3:]
            self.ran.append((node, command))
            if "/recorder" in command[-1]:
                return b"2 hotel\n\n" + self.record, b"", 0
            if command[0] == "false":
                return b"", b"it cannot\n", 1
        if PurePosixPath(command[0]).name == "socat" and stdin:
            request = json.loads(stdin)
            if request["op"] in ("forget", "flush"):
                self.asked.append((node, request["op"]))
                box.event("detached", "mobile-node")
                return b'{"ok": true}\n', b"", 0
            if request["op"] == "move":
                return self._move(box, request["network"])
            if "roam" not in command[-1] and "relay" not in command[-1]:
                return b'{"ok": true, "bindings": [], "visitors": []}\n', b"", 0
        return super().__call__(box, command, stdin)

    def _move(self, box: FakeContainer, network: str) -> tuple[bytes, bytes, int]:
        settled = {"network": network, "state": "registered", "detail": "co-located", "timeline": TIMELINE}
        box.event("settled", "roam", **settled)
        lines: list[dict[str, Any]] = [{"ok": True}, {"event": "settled", **settled}]
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines), b"", 0


def recorded(*moments: float) -> bytes:
    """What a recorder's file has: an echo request of the mobile node in the hotel at each moment."""
    echo = b"\x08\x00\xf7\xff\0\0\0\0"
    header = pack("!BBHHHBBH", 0x45, 0, 20 + len(echo), 1, 0, 64, 1, 0)
    addresses = bytes((198, 51, 100, 70, 192, 0, 2, 10))
    link = pack("!HHIHBB8s", 0x0800, 0, 2, 1, 4, 6, bytes(8))
    data = link + header + addresses + echo
    writer = CaptureWriter()
    frames = [Frame(int(moment * 1e9), LINUX_SLL2, data, len(data)) for moment in moments]
    content = writer.header() + b"".join(map(writer.frame, frames))
    return f"{len(content)}\n".encode() + content
