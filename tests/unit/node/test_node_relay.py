"""The emulated link and what surrounds it, without a device."""

import asyncio
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.agreed import Impairment
from testbed.mobileip.io.control import RequestError
from testbed.mobileip.io.errors import ConfigError
from testbed.node.relay import __main__ as main
from testbed.node.relay.__main__ import changed
from testbed.node.relay.link import LIMIT, Link
from testbed.node.relay.netem import arguments
from testbed.node.relay.relay_toml import load
from testbed.node.relay.tun import give_hop_back


def delivered(link, until, step=0.001):
    """Packets with the time each came out, looking every `step` seconds."""
    out, now = [], 0.0
    while now <= until:
        out += [(round(now, 3), packet) for packet in link.due(now)]
        now += step
    return out


def test_constant_delay_holds_each_packet_equally_long():
    link = Link(Impairment(delay_ms=40))
    link.submit(b"a", 0.0)
    link.submit(b"b", 0.01)
    assert link.deadline() == pytest.approx(0.04)
    assert delivered(link, 0.1) == [
        (pytest.approx(0.04, abs=0.0011), b"a"),
        (pytest.approx(0.05, abs=0.0011), b"b"),
    ]
    assert link.deadline() is None


@given(st.integers(0, 2**32), st.floats(0, 100), st.floats(0, 100))
def test_jitter_stays_within_its_bounds_and_keeps_the_order(seed, delay, jitter):
    link = Link(Impairment(delay_ms=delay, jitter_ms=jitter), random.Random(seed))
    numbers = [bytes([number]) for number in range(50)]
    for number in numbers:
        link.submit(number, 1.0)
    assert link.deadline() >= 1.0 + (delay - jitter) / 1000 - 1e-9 or link.deadline() >= 0
    assert link.due(1.0 + (delay + jitter) / 1000 + 1e-9) == numbers


def test_loss_is_a_percentage():
    link = Link(Impairment(loss=25), random.Random(1))
    for _ in range(4000):
        link.submit(b"x", 0.0)
    assert len(link.due(0.0)) == 4000 - link.lost
    assert 900 < link.lost < 1100


def test_rate_spaces_packets_by_their_size():
    link = Link(Impairment(rate=1_000_000))
    for _ in range(3):
        link.submit(bytes(125), 0.0)  # 1 ms each
    assert [len(link.due(at)) for at in (0.0005, 0.0011, 0.0021, 0.0031)] == [0, 1, 1, 1]


def test_a_full_queue_drops():
    link = Link(Impairment(delay_ms=1000))
    for _ in range(LIMIT + 5):
        link.submit(b"x", 0.0)
    assert (len(link), link.overflowed) == (LIMIT, 5)


def test_packets_held_keep_their_time_when_the_delay_shrinks_and_order_holds():
    link = Link(Impairment(delay_ms=100))
    link.submit(b"a", 0.0)
    link.impairment = Impairment(delay_ms=1)
    link.submit(b"b", 0.0)
    assert link.due(0.05) == []
    assert link.due(0.1) == [b"a", b"b"]


def checksum(header):
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.binary(min_size=20, max_size=20), st.integers(1, 254))
def test_the_hop_given_back_leaves_a_valid_header(noise, ttl):
    header = bytearray(noise)
    header[0], header[8], header[10:12] = 0x45, ttl, b"\0\0"
    header[10:12] = (~checksum(bytes(header)) & 0xFFFF).to_bytes(2, "big")
    after = give_hop_back(bytes(header))
    assert after[8] == ttl + 1
    assert checksum(after) == 0xFFFF


def test_netem_is_told_to_keep_the_order():
    assert arguments(Impairment(delay_ms=40))[2:] == ["delay", "40ms"]
    assert arguments(Impairment(delay_ms=40, jitter_ms=5))[-2:] == ["rate", "100000000000bit"]
    assert arguments(Impairment(loss=0.5, rate=2e6))[2:] == [
        "delay",
        "0ms",
        "loss",
        "0.5%",
        "rate",
        "2000000bit",
    ]


def test_a_change_touches_only_what_it_names():
    before = Impairment(delay_ms=40, loss=1)
    assert changed(before, {"op": "set", "id": 1, "delay_ms": 0}) == Impairment(loss=1)


@pytest.mark.parametrize(
    "request_", [{"delay": 1}, {"delay_ms": "1"}, {"loss": 101}, {"rate": -1}, {"jitter_ms": True}]
)
def test_a_senseless_change_is_refused(request_):
    with pytest.raises(RequestError):
        changed(Impairment(), {"op": "set", **request_})


def test_configuration(tmp_path):
    file = tmp_path / "relay.toml"
    file.write_text('interface = "internet"\ndelay-ms = 40\nrate = 0\n')
    config = load(file)
    assert (config.interface, config.backend, config.control) == (
        "internet",
        "auto",
        "/run/testbed/relay.sock",
    )
    assert config.impairment == Impairment(delay_ms=40)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "interface: is missing"),
        ('interface = "i"\ndelay = 1', r"relay\.toml:2: delay: unknown key; did you mean 'delay-ms'"),
        ('interface = "i"\nloss = 101', "loss: expected 0 to 100"),
        ('interface = "i"\ndelay-ms = "40ms"', "delay-ms: expected a number"),
        ('interface = "i"\nbackend = "tbf"', "backend: expected one of auto, netem, relay"),
        ("interface = ", r"relay\.toml:.* Invalid value"),
    ],
)
def test_configuration_errors_name_file_and_key(tmp_path, text, problem):
    file = tmp_path / "relay.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        load(file)


class Backend:
    """Remembers what it was told."""

    name, detour = "relay", True

    def __init__(self, log):
        self.log = log

    async def apply(self, impairment):
        self.log.append(("apply", impairment))

    async def counters(self):
        return {}


@pytest.fixture
def relay(tmp_path, monkeypatch):
    """A relay in a folder of its own, and the log of what it does."""
    log = []
    for action in ("hold", "let_pass"):

        async def act(interface, action=action):
            log.append((action, interface))

        monkeypatch.setattr(main, action, act)
    file = tmp_path / "relay.toml"
    file.write_text(f'state = "{tmp_path / "state.json"}"\ninterface = "internet"\ndelay-ms = 40\n')
    return lambda: main.Relay(load(file), Backend(log)), log


def test_packets_cross_only_once_they_are_treated(relay):
    make, log = relay
    asyncio.run(make().start())
    assert log == [("apply", Impairment(delay_ms=40)), ("hold", "internet")]


def test_with_nothing_to_do_they_pass(relay):
    make, log = relay
    one = make()
    asyncio.run(one.handle({"op": "set", "delay_ms": 0}, None))
    assert log == [("apply", Impairment()), ("let_pass", "internet")]


def test_what_was_set_outlives_the_relay(relay):
    make, log = relay
    asyncio.run(make().handle({"op": "set", "loss": 1}, None))
    log.clear()
    asyncio.run(make().start())
    assert log[0] == ("apply", Impairment(delay_ms=40, loss=1))
