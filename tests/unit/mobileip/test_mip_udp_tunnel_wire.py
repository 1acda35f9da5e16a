"""The messages of RFC 3519: round trips, the figures of its text, and tshark's reading of the same bytes."""

from __future__ import annotations

import json
import subprocess
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mip_world import CARE_OF, HOME_ADDRESS, HOME_AGENT, association
from scapy.layers.inet import ICMP, IP, UDP
from scapy.utils import wrpcap

from testbed.mobileip.core.association import sign
from testbed.mobileip.wire.authentication import MOBILE_HOME
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import Extension
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest
from testbed.mobileip.wire.udp_tunnel import (
    GRE,
    IP_IN_IP,
    MINIMAL,
    REPLY,
    REQUEST,
    TunnelData,
    UdpTunnelReply,
    UdpTunnelRequest,
)

bytes_ = st.integers(0, 255)
tunnel_requests = st.builds(UdpTunnelRequest, st.booleans(), st.booleans(), bytes_)
tunnel_replies = st.builds(UdpTunnelReply, bytes_, st.booleans(), st.integers(0, 0xFFFF))


@given(tunnel_requests)
def test_requests_come_back_as_they_were(request):
    assert UdpTunnelRequest.decode(request.encode().data) == request


@given(tunnel_replies)
def test_replies_come_back_as_they_were(reply):
    assert UdpTunnelReply.decode(reply.encode().data) == reply
    assert reply.assents is (reply.code <= 63)


@given(bytes_, st.binary(max_size=60))
def test_data_comes_back_as_it_was(next_header, payload):
    message = TunnelData(next_header, payload)
    assert TunnelData.decode(message.encode()) == message


def test_they_are_laid_out_as_in_section_3():
    assert UdpTunnelRequest(True, True, 55).encode().encode().hex() == "90060000c0370000"
    assert UdpTunnelRequest().encode().encode().hex() == "9006000000000000"
    assert UdpTunnelReply(64, True, 110).encode().encode().hex() == "2c0600408000006e"
    assert TunnelData(4, b"E").encode().hex() == "0404000045"


def test_reserved_bits_of_a_reply_are_ignored():
    data = bytearray(UdpTunnelReply(0, True, 110).encode().data)
    data[2], data[3] = data[2] | 0x7F, 0xFF
    assert UdpTunnelReply.decode(bytes(data)) == UdpTunnelReply(0, True, 110)


def test_reserved_3_length_and_sub_type_make_a_request_not_understood():
    data = bytearray(UdpTunnelRequest(True).encode().data)
    for at, value in ((0, 1), (4, 1), (5, 0x80)):
        changed = bytes(data[:at]) + bytes((value,)) + bytes(data[at + 1 :])
        assert UdpTunnelRequest.decode(changed) is None
    assert UdpTunnelRequest.decode(bytes(data[:5])) is UdpTunnelRequest.decode(bytes(7)) is None
    data[1], data[2] = 0xFF, data[2] | 0x3F  # Reserved 1 and 2 are ignored
    assert UdpTunnelRequest.decode(bytes(data)) == UdpTunnelRequest(True)


@given(st.binary(max_size=10))
def test_whatever_comes_only_wire_errors_are_raised(noise):
    UdpTunnelRequest.decode(noise)
    for decode in (UdpTunnelReply.decode, TunnelData.decode, lambda data: TunnelData.decode(b"\4" + data)):
        try:
            decode(noise)
        except WireError as error:
            assert error.reason


def test_a_reply_extension_is_known_and_not_skipped():
    reply = RegistrationReply(0, 60, HOME_ADDRESS, HOME_AGENT, 1, (UdpTunnelReply().encode(),))
    assert RegistrationReply.decode(reply.encode()) == reply
    other = RegistrationReply(0, 60, HOME_ADDRESS, HOME_AGENT, 1, (Extension(REPLY + 2, bytes(6)),))
    with pytest.raises(WireError, match="unknown-extension"):
        RegistrationReply.decode(other.encode())


# tshark, which knows all three.


def read_by_tshark(file: Path, *payloads: bytes) -> list[dict[str, Any]]:
    wrpcap(
        str(file),
        [IP(src=str(CARE_OF), dst=str(HOME_AGENT)) / UDP(sport=434, dport=434) / p for p in payloads],
    )
    out = subprocess.run(
        ["tshark", "-r", file, "-n", "-T", "json"], capture_output=True, check=True, text=True
    )
    return [packet["_source"]["layers"] for packet in json.loads(out.stdout)]


def found(tree: Any, name: str) -> list[str]:
    """Every value of a field, at whatever depth."""
    if not isinstance(tree, dict):
        return []
    here = [tree[name]] if name in tree else []
    return here + [value for below in tree.values() for value in found(below, name)]


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("encapsulation", [0, IP_IN_IP, GRE, MINIMAL])
def test_tshark_reads_the_extensions(tmp_path: Path, forced: bool, encapsulation: int) -> None:
    request = RegistrationRequest(
        0x22, 60, HOME_ADDRESS, HOME_AGENT, CARE_OF, 1,
        (UdpTunnelRequest(forced, not forced, encapsulation).encode(),),
    )  # fmt: skip
    reply = RegistrationReply(
        0, 60, HOME_ADDRESS, HOME_AGENT, 1, (UdpTunnelReply(64 * forced, forced, 30).encode(),)
    )
    signed = [sign(each.encode(), MOBILE_HOME, association(HOME_AGENT)) for each in (request, reply)]
    asked, answered = read_by_tshark(tmp_path / "messages.pcap", *signed)
    assert found(asked, "mip.ext.type") == [str(REQUEST), str(MOBILE_HOME)]
    assert found(asked, "mip.ext.utrq.subtype") == ["0"]
    assert found(asked, "mip.ext.utrq.f") == [str(int(forced))]
    assert found(asked, "mip.ext.utrq.r") == [str(int(not forced))]
    assert found(asked, "mip.ext.utrq.encaptype") == [str(encapsulation)]
    assert found(answered, "mip.ext.type") == [str(REPLY), str(MOBILE_HOME)]
    assert found(answered, "mip.ext.utrp.code") == [str(64 * forced)]
    assert found(answered, "mip.ext.utrp.f") == [str(int(forced))]
    assert found(answered, "mip.ext.utrp.keepalive") == ["30"]
    assert "_ws.malformed" not in asked | answered


def test_tshark_reads_what_a_data_message_carries(tmp_path: Path) -> None:
    inner = bytes(IP(src=str(HOME_ADDRESS), dst=str(IPv4Address("192.0.2.9"))) / ICMP(id=434, seq=7))
    (packet,) = read_by_tshark(tmp_path / "data.pcap", TunnelData(IP_IN_IP, inner).encode())
    assert found(packet, "mip.type") == ["4"]
    assert found(packet, "mip.nattt.nexthdr") == ["4"]
    assert found(packet, "icmp.seq") == ["7"]
    assert "_ws.malformed" not in packet
