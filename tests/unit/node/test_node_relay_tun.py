"""The two backends that treat packets, with commands that are only remembered."""

import asyncio
import os

import pytest

from testbed.agreed import Impairment
from testbed.node.relay import netem, tun
from testbed.node.relay.netem import Netem
from testbed.node.relay.tun import TunRelay

SLOW = Impairment(delay_ms=40.0)


@pytest.fixture
def device(monkeypatch):
    """Instead of the TUN device, a pipe; returns the end that the kernel would write."""
    ours, kernels = os.pipe2(os.O_NONBLOCK)
    open_ = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *rest: os.dup(ours) if path == "/dev/net/tun" else open_(path, *rest)
    )
    monkeypatch.setattr(tun.fcntl, "ioctl", lambda *_: 0)
    yield kernels
    os.close(ours)
    os.close(kernels)


@pytest.fixture
def said(monkeypatch):
    """The commands that were run."""
    said = []

    async def run(*command, stdin=""):
        said.append(" ".join(command))
        return ""

    for module in (netem, tun):
        monkeypatch.setattr(module, "run", run)
    return said


def test_no_packet_is_taken_before_it_is_known_what_to_do_with_it(device, said):
    async def scenario():
        relay = TunRelay("lo")
        await relay.open()
        os.write(device, bytes([0x45]) + bytes(19))
        await asyncio.sleep(0.02)
        assert (await relay.counters())["held"] == 0
        await relay.apply(SLOW)
        await asyncio.sleep(0.02)
        assert (await relay.counters())["held"] == 1
        await relay.close()

    asyncio.run(scenario())


def test_netem_is_tried_where_it_takes_nothing_away_and_stays_when_its_relay_ends(said):
    async def scenario():
        backend = Netem("internet")
        await backend.open()
        assert not [command for command in said if "internet" in command]
        await backend.apply(SLOW)
        await backend.close()

    asyncio.run(scenario())
    assert said[-1] == "tc qdisc replace dev internet root netem limit 20000 delay 40ms"
