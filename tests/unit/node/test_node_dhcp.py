"""DHCP messages against scapy, and the echo request."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, UDP

from testbed.node.roam import dhcp_message as message
from testbed.node.roam import echo

MAC = bytes.fromhex("0242c6336446")


def test_a_discover_is_what_scapy_reads():
    packet = IP(message.encode(message.DISCOVER, 0x1234, MAC, {message.PARAMETERS: b"\x01\x03"}))
    assert (packet.src, packet.dst, packet[UDP].sport, packet[UDP].dport) == (
        "0.0.0.0",
        "255.255.255.255",
        68,
        67,
    )
    assert (packet[BOOTP].xid, packet[BOOTP].chaddr[:6], packet[BOOTP].op) == (0x1234, MAC, 1)
    options = [option for option in packet[DHCP].options if isinstance(option, tuple)]
    assert ("message-type", 1) in options
    assert ("client_id", b"\x01" + MAC) in options
    assert ("param_req_list", [1, 3]) in options
    given = packet.chksum, packet[UDP].chksum
    del packet.chksum, packet[UDP].chksum
    again = IP(bytes(packet))
    assert (again.chksum, again[UDP].chksum) == given


def test_a_renewal_is_unicast_and_names_the_address_held():
    source, server = IPv4Address("198.51.100.70"), IPv4Address("198.51.100.65")
    packet = IP(message.encode(message.REQUEST, 1, MAC, {}, source, server))
    assert (packet.src, packet.dst, packet[BOOTP].ciaddr) == (str(source), str(server), str(source))


def answer(*options, **bootp):
    fields = {"op": 2, "xid": 7, "yiaddr": "198.51.100.70", "chaddr": MAC, **bootp}
    return bytes(
        IP(src="198.51.100.65", dst="198.51.100.70")
        / UDP(sport=67, dport=68)
        / BOOTP(**fields)
        / DHCP(options=[*options, "end"])
    )


def test_an_answer_of_scapy_is_read():
    reply = message.decode(
        answer(
            ("message-type", "ack"),
            ("subnet_mask", "255.255.255.192"),
            ("router", "198.51.100.65"),
            ("lease_time", 600),
            ("server_id", "198.51.100.65"),
        )
    )
    assert reply is not None
    assert (reply.type, reply.transaction, str(reply.address), reply.hardware) == (5, 7, "198.51.100.70", MAC)
    assert str(reply.address_option(message.MASK)) == "255.255.255.192"
    assert str(reply.address_option(message.ROUTER)) == "198.51.100.65"
    assert reply.seconds(message.LEASE_TIME) == 600
    assert reply.seconds(message.T1) is None


@pytest.mark.parametrize(
    "packet", [b"", answer(("message-type", "ack"), op=1), answer(("lease_time", 1)), answer()[:200]]
)
def test_what_is_no_answer_is_ignored(packet):
    assert message.decode(packet) is None


@given(st.binary(max_size=400), st.integers(0, 300))
def test_noise_is_never_a_crash(noise, keep):
    message.decode(noise)
    message.decode(answer(("message-type", "ack"))[:keep] + noise)


def test_the_echo_request_is_valid_and_its_reply_recognised():
    probe = ICMP(echo.request(0xBEEF, 3))
    assert (probe.type, probe.id, probe.seq) == (8, 0xBEEF, 3)
    given_checksum = probe.chksum
    del probe.chksum
    assert ICMP(bytes(probe)).chksum == given_checksum
    reply = bytes(IP(src="10.0.4.10") / ICMP(type=0, id=0xBEEF, seq=3))
    assert echo.is_reply(reply, 0xBEEF)
    assert not echo.is_reply(reply, 0xBEEE)
    assert not echo.is_reply(reply[:24], 0xBEEF)
