"""The relay's detour through its device, with an `ip` that only remembers: nothing may go round it."""

import asyncio
import os

import pytest

from testbed.node.relay import netem, tun
from testbed.node.relay.link import Impairment
from testbed.node.relay.netem import Netem
from testbed.node.relay.spawn import CommandError
from testbed.node.relay.tun import TunRelay

SLOW = Impairment(delay_ms=40.0)


class Ip:
    """The rule and the routes of the relay's table; a device takes its routes along."""

    def __init__(self, monkeypatch):
        self.rule, self.routes, self.said = False, [], []
        monkeypatch.setattr(tun, "run", self.run)

    async def run(self, *command, stdin=""):
        for line in stdin.splitlines():
            self.said.append(line)
            if line.startswith("rule"):
                if self.rule == ("rule add" in line):
                    raise CommandError("File exists or No such file")
                self.rule = "rule add" in line
            elif line.startswith("route replace"):
                self.routes.append("blackhole" if "blackhole default metric" in line else "device")

    @property
    def way(self):
        """Where packets go."""
        return self.routes[0] if self.rule else "past"


@pytest.fixture
def ip(monkeypatch):
    monkeypatch.setattr(tun.fcntl, "ioctl", lambda *_: 0)
    return Ip(monkeypatch)


@pytest.fixture
def device(monkeypatch):
    """Instead of the TUN device, a pipe; returns the end that the kernel would write."""
    ours, kernels = os.pipe2(os.O_NONBLOCK)
    open_ = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *rest: os.dup(ours) if path == "/dev/net/tun" else open_(path, *rest)
    )
    yield kernels
    os.close(ours)
    os.close(kernels)


def test_where_the_relay_was_killed_packets_are_dropped_until_the_next_one_holds_them(ip, device):
    async def killed():
        relay = TunRelay("lo")
        await relay.open()
        await relay.apply(SLOW)
        assert ip.way == "device"

    asyncio.run(killed())
    ip.routes.remove("device")  # it went with the process
    assert ip.way == "blackhole"

    async def scenario():
        second = TunRelay("lo")
        begun = len(ip.said)
        await second.open()
        os.write(device, bytes([0x45]) + bytes(19))
        await asyncio.sleep(0.02)
        assert (await second.counters())["held"] == 0  # not even taken yet: it would not be held
        await second.apply(SLOW)
        await asyncio.sleep(0.02)
        assert not [line for line in ip.said[begun:] if line.startswith("rule del")]
        assert (await second.counters())["held"] == 1
        await second.close()
        assert ip.rule

    asyncio.run(scenario())


def test_where_nothing_is_to_be_done_the_relay_steps_out_of_the_way(ip, device):
    async def scenario():
        ip.rule = True  # a predecessor had something to do
        relay = TunRelay("lo")
        await relay.open()
        await relay.apply(Impairment())
        assert ip.way == "past"
        await relay.apply(SLOW)
        assert ip.rule
        await relay.close()

    asyncio.run(scenario())


def test_netem_is_tried_where_it_takes_nothing_away(monkeypatch):
    said = []

    async def run(*command, stdin=""):
        said.append(" ".join(command))
        return ""

    monkeypatch.setattr(netem, "run", run)

    async def scenario():
        backend = Netem("internet")
        await backend.open()
        assert not [command for command in said if "internet" in command]
        await backend.apply(SLOW)
        await backend.close()

    asyncio.run(scenario())
    assert said[-1] == "tc qdisc replace dev internet root netem limit 20000 delay 40ms"
