"""What several taps see of one packet: one passage a network, whatever order the copies come in."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address
from struct import pack

import pytest

from testbed.lab.passages import Passage, Passages
from testbed.packet.pcap import LINUX_SLL2, Frame

NETWORKS = frozenset(("hotel", "internet"))
MICROSECOND = 1000


def ip(number: int, ttl: int = 64) -> bytes:
    """A packet that differs from others in its identification."""
    source, destination = IPv4Address("198.51.100.73").packed, IPv4Address("203.0.113.2").packed
    return pack("!BBHHHBBH", 0x45, 0, 24, number, 0, ttl, 253, 0) + source + destination + b"data"


def seen(where: str, micros: int, packet: bytes, *, out: bool = False) -> Frame:
    cooked = pack("!HxxIHBB8s", 0x0800, 7, 1, 4 if out else 0, 6, bytes(8))
    return Frame(micros * MICROSECOND, LINUX_SLL2, cooked + packet, 20 + len(packet), where)


def put_together(frames: list[Frame]) -> list[str]:
    passages = Passages(NETWORKS)
    found = [passage for frame in frames if (passage := passages.add(frame))]
    return [passage.seen for passage in sorted(found, key=lambda one: one.frame.time)]


def across_the_hub() -> list[Frame]:
    """A packet from the hotel's router over the hub to the gateway: the hub takes one off its TTL."""
    return [
        seen("mn/hotel", 10, ip(1), out=True),
        seen("router/hotel", 12, ip(1)),
        seen("router/internet", 13, ip(1, 63), out=True),
        seen("core/internet", 15, ip(1, 63)),
        seen("core/internet", 10_016, ip(1, 62), out=True),
        seen("gw/internet", 10_018, ip(1, 62)),
    ]


def test_copies_come_in_any_order() -> None:
    expected = ["hotel mn→router", "internet router→core", "internet core→gw"]
    for order in itertools.permutations(across_the_hub()):
        assert put_together([*order]) == expected, order


@pytest.mark.parametrize("lost", range(6))
def test_what_no_tap_saw_is_not_made_up(lost: int) -> None:
    frames = across_the_hub()
    del frames[lost]
    expected = [["hotel", "mn", "router"], ["internet", "router", "core"], ["internet", "core", "gw"]]
    expected[lost // 2][1 + lost % 2] = "nobody" if lost % 2 else "?"
    assert put_together(frames) == [f"{net} {sender}→{receiver}" for net, sender, receiver in expected]


def test_a_broadcast_is_one_passage_to_all() -> None:
    frames = [seen("mn/hotel", 10, ip(1), out=True), seen("a/hotel", 11, ip(1)), seen("b/hotel", 11, ip(1))]
    assert put_together(frames) == ["hotel mn→a,b"]


def test_the_same_packet_again_is_another_passage() -> None:
    sent = [seen("mn/hotel", at, ip(1), out=True) for at in (10, 500)]
    received = [seen("router/hotel", at, ip(1)) for at in (12, 502)]
    assert put_together([*sent, *received]) == ["hotel mn→router"] * 2
    assert put_together([*sent, received[0]]) == ["hotel mn→router", "hotel mn→nobody"]


def test_others_at_the_same_moment_are_others() -> None:
    frames = [seen("mn/hotel", 10, ip(1), out=True), seen("router/hotel", 12, ip(2))]
    assert put_together(frames) == ["hotel mn→nobody", "hotel ?→router"]


def test_a_tunnel_is_the_nodes_own() -> None:
    frames = [seen("mn/ipsec0", 10, ip(1), out=True), seen("gw/ipsec0", 900, ip(1))]
    assert put_together(frames) == ["mn/ipsec0", "gw/ipsec0"]


def test_a_long_capture_forgets() -> None:
    passages = Passages(NETWORKS)
    for second in range(60):
        for number in range(20):
            assert passages.add(seen("mn/hotel", second * 1_000_000 + number, ip(number), out=True))
    assert len(passages._recent) <= 20
    passages.add(seen("mn/hotel", 90_000_000, ip(999), out=True))
    late = passages.add(seen("mn/hotel", 93_000_000, ip(1000), out=True))
    assert isinstance(late, Passage) and len(passages._recent) <= 3
