"""Hosts of engines in memory, and the network between them: what tunnel end points find and make there."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lab_world import IMAGE, Daemons, Told

from testbed.engine import record
from testbed.engine.fake import FakeContainer, FakeEngine, become_ready
from testbed.engine.joined import JoinedEngine


@dataclass
class FakeHost:
    """One engine's host: answers the commands of its tunnel end points, and others as a healthy lab does."""

    name: str
    address: str
    underlay: Underlay
    engine: FakeEngine = field(default_factory=FakeEngine)
    daemons: Daemons = field(default_factory=Daemons)
    namespace: str = ""  # its own, unless said otherwise
    mtu: int = 1500
    devices: dict[str, str] = field(default_factory=dict)  # device → its alias
    mtus: dict[str, int] = field(default_factory=dict)  # device → its MTU

    def __post_init__(self) -> None:
        self.engine.command = self
        self.engine.behave = lambda box: None if box.spec.host_network else become_ready(box)
        self.engine.address = f"tcp://{self.address}"

    def __call__(self, box: FakeContainer, command: Sequence[str], stdin: bytes) -> tuple[bytes, bytes, int]:
        if not box.spec.host_network:
            return self.daemons(box, command, stdin)
        script = command[-1]
        if "boot_id" in script:
            return self._host(), b"", 0
        if command[0] == "python3":
            return json.dumps(self._reach(json.loads(script))).encode(), b"", 0
        if command[:2] == ("ip", "-j"):
            links = [{"ifname": name, "ifalias": alias} for name, alias in self.devices.items()]
            return json.dumps(links).encode(), b"", 0
        if made := re.search(r"^ip link add (\S+) type vxlan", script, re.M):
            alias = re.search(r"^ip link set \S+ alias '(.*)'$", script, re.M)
            mtu = re.search(r"mtu (\d+) up", script)
            assert alias and mtu
            self.devices[made[1]], self.mtus[made[1]] = alias[1], int(mtu[1])
        else:
            for gone in re.findall(r"ip link delete (\S+);", script):
                self.devices.pop(gone, None)
        self.engine.host_links = {*self.devices}
        return b"", b"", 0

    def _host(self) -> bytes:
        bridge = {"ifname": "docker0", "mtu": 1500, "addr_info": [{"local": "172.17.0.1", "scope": "global"}]}
        local = {"local": self.address, "scope": "global"}
        links = [bridge, {}, {"ifname": "eth0", "mtu": self.mtu, "addr_info": [local]}]
        return f"one-boot\n{self.namespace or self.name}\n{json.dumps(links)}".encode()

    def _reach(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for peer, addresses in asked["peers"].items():
            other = self.underlay.hosts[peer]
            assert other.address in addresses and "172.17.0.1" not in addresses
            if (
                asked["size"] + 50 <= self.underlay.path_mtu
                and (peer, self.name) not in self.underlay.blocked
            ):
                ahead = self.underlay.clocks.get(peer, 0.0) - self.underlay.clocks.get(self.name, 0.0) - 0.001
                found[peer] = {"address": other.address, "ahead": ahead}
        return found


@dataclass
class Underlay:
    """The network between two hosts, with knobs for what is not healthy."""

    path_mtu: int = 65535
    blocked: set[tuple[str, str]] = field(default_factory=set)  # from, to
    clocks: dict[str, float] = field(default_factory=dict)  # seconds that an engine's clock is ahead
    hosts: dict[str, FakeHost] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, name in enumerate(("a", "b"), 1):
            self.hosts[name] = FakeHost(name, f"192.0.2.{number}", self)

    @property
    def engines(self) -> dict[str, FakeEngine]:
        """The engines by name."""
        return {name: host.engine for name, host in self.hosts.items()}


def join(underlay: Underlay, told: Told) -> JoinedEngine:
    """As a process of its own sees the engines."""
    engines = underlay.engines
    found = JoinedEngine(engines, {name: one.address for name, one in engines.items()}, told.say)
    found.vtep_image = IMAGE
    return found


def assert_nothing_is_left(underlay: Underlay) -> None:
    for host in underlay.hosts.values():
        assert not host.engine.boxes and not host.engine.network_specs and not host.devices
    assert not record.all_recorded()
