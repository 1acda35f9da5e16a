"""Security associations are counted by their SPIs: one that MOBIKE has moved is the same one."""

import struct
from ipaddress import IPv4Address
from types import SimpleNamespace

import pytest

from testbed.claim.expect.ike import EspSas
from testbed.packet.pcap import RAW_IP, Frame
from testbed.packet.taps import Matched

GATEWAY, HOTEL, AIRPORT = "203.0.113.2", "198.51.100.70", "198.51.100.140"
OUT, BACK, FRESH = 0xC0000001, 0xC0000002, 0xC0000003


def esp(spi, source, destination):
    payload = struct.pack("!II", spi, 1) + bytes(32)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, 50, 0)
    return header + IPv4Address(source).packed + IPv4Address(destination).packed + payload


def decided(at_airport):
    frames = {
        "mn/hotel": [esp(OUT, HOTEL, GATEWAY), esp(BACK, GATEWAY, HOTEL)],
        "mn/airport": at_airport,
    }

    def match_all(taps, _):
        found = {tap: tuple(Frame(0, RAW_IP, one, len(one)) for one in frames[tap]) for tap in taps}
        return [Matched(tap, each, len(each), alive=True, dropped=0) for tap, each in found.items()]

    word = EspSas.model_validate({"at": [*frames], "at-most": 2})
    return word.judge(SimpleNamespace(wires=SimpleNamespace(match_all=match_all)))


def test_a_moved_association_is_the_same():
    decision = decided([esp(OUT, AIRPORT, GATEWAY), esp(BACK, GATEWAY, AIRPORT)])
    assert decision.held and decision.observed == "2 of 4 captured"


@pytest.mark.parametrize("fresh", [(FRESH, AIRPORT, GATEWAY), (FRESH, GATEWAY, HOTEL)])
def test_a_fresh_one_is_another(fresh):
    decision = decided([esp(OUT, AIRPORT, GATEWAY), esp(*fresh)])
    assert decision.held is False and decision.observed == "3 of 4 captured"
