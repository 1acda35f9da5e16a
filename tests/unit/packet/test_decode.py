"""Decoding of frames: against tshark as oracle, against what scapy built, and on bytes that mean nothing."""

from __future__ import annotations

import json
import subprocess
from ipaddress import IPv4Address
from pathlib import Path
from socket import inet_aton
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import ARP, GRE, CookedLinux, Ether
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw
from scapy.utils import checksum, wrpcap

from testbed.mobileip.wire import agent_solicitation, nai
from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement, MobilityAgentExtension
from testbed.mobileip.wire.authentication import MOBILE_FOREIGN, MOBILE_HOME, Authentication, header
from testbed.mobileip.wire.extension import Extension
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest
from testbed.mobileip.wire.udp_tunnel import TunnelData
from testbed.packet.decode import decode
from testbed.packet.layers import (
    AgentMessage,
    Arp,
    Dhcp,
    Esp,
    Gre,
    Ike,
    Ipv4,
    Malformed,
    MipUdp,
    MobileIp,
    Tcp,
)
from testbed.packet.names import Names
from testbed.packet.pcap import (
    ETHERNET,
    LINUX_SLL,
    LINUX_SLL2,
    RAW_IP,
    CaptureError,
    CaptureReader,
    CaptureWriter,
    Frame,
    read_capture,
)
from testbed.topology.load import load_topology
from testbed.topology.names import topology_names

MN, HA, COA, GW = (IPv4Address(a) for a in ("10.0.1.100", "10.0.1.2", "198.51.100.70", "203.0.113.2"))
NONE, FA = IPv4Address("0.0.0.0"), IPv4Address("198.51.100.1")
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


def frame(payload: Any) -> bytes:
    return bytes(Ether(**MACS) / payload)


def udp(payload: bytes, sport: int = 434, dport: int = 434, src: Any = COA, dst: Any = HA) -> bytes:
    return frame(IP(src=str(src), dst=str(dst)) / UDP(sport=sport, dport=dport) / Raw(payload))


def authentication(kind: int, spi: int) -> Extension:
    return Extension(kind, header(kind, spi, 16)[2:] + bytes(range(16)))


def registration_messages() -> list[bytes]:
    """Every flag, both messages, no, one and several extensions, padding and skippable ones."""
    messages = [
        RegistrationRequest(
            1 << bit, 600 + bit, MN, HA, COA, (3_900_000_000 << 32) + bit, (authentication(MOBILE_HOME, 256),)
        ).encode()
        for bit in range(8)
    ]
    several = (authentication(MOBILE_HOME, 0xDEADBEEF), authentication(MOBILE_FOREIGN, 300))
    messages += [
        RegistrationRequest(0x22, 0, MN, HA, MN, 7 << 32, several).encode(),
        RegistrationRequest(0x02, 0xFFFF, MN, HA, COA, 1, ()).encode(),
    ]
    messages += [
        RegistrationReply(
            code, 300, MN, HA, (3_900_000_001 << 32) + code, (authentication(MOBILE_HOME, 256),)
        ).encode()
        for code in (0, 1, 64, 78, 80, 131, 133, 136, 200)
    ]
    return messages


def advertisements() -> list[bytes]:
    agent = IPv4Address("198.51.100.1")
    return [
        AgentAdvertisement(
            3,
            ((agent, 0),),
            MobilityAgentExtension(17, 600, 0x9100, (IPv4Address("203.0.113.10"),)),
            (26,),
        ).encode(),
        AgentAdvertisement(9, ((agent, -5),), MobilityAgentExtension(0, 60, 0x2000), code=16).encode(),
        AgentAdvertisement(1800, ((agent, 0), (MN, 2))).encode(),
        agent_solicitation.encode(),
    ]


def tshark(path: Path) -> list[dict[str, Any]]:
    """Every packet's fields, as tshark reads them: values are lists of texts."""
    out = subprocess.run(
        ["tshark", "-r", path, "-T", "ek", "-n"], capture_output=True, check=True, text=True
    ).stdout
    return [found["layers"] for line in out.splitlines() if (found := json.loads(line)).get("layers")]


def one(layer: dict[str, Any], field: str) -> Any:
    value = layer.get(field)
    return value[0] if isinstance(value, list) else value


def many(layer: dict[str, Any], field: str) -> list[Any]:
    value = layer.get(field, [])
    return value if isinstance(value, list) else [value]


def test_tshark_agrees_on_every_registration_message(tmp_path: Path) -> None:
    file = tmp_path / "mip.pcap"
    inner = [
        IP(src=str(COA), dst=str(HA)) / UDP(sport=434, dport=434) / Raw(m) for m in registration_messages()
    ]
    outer = IP(src="203.0.113.10", dst=str(GW))
    wrpcap(str(file), [Ether(**MACS) / packet for packet in inner] + [Ether(**MACS) / outer / inner[0]])
    theirs = tshark(file)
    ours = [decode(f.data, f.linktype) for f in read_capture(file)]
    assert len(ours) == len(theirs) == len(inner) + 1

    for packet, layers in zip(ours, theirs, strict=True):
        mip = layers["mip"]
        layer = packet.first(MobileIp)
        assert layer is not None and layer.complete
        message = layer.message
        assert int(one(mip, "mip_mip_type")) == (1 if isinstance(message, RegistrationRequest) else 3)
        assert int(one(mip, "mip_mip_life")) == message.lifetime
        assert one(mip, "mip_mip_homeaddr") == str(message.home_address)
        assert one(mip, "mip_mip_haaddr") == str(message.home_agent)
        if isinstance(message, RegistrationRequest):
            assert one(mip, "mip_mip_coa") == str(message.care_of_address)
            assert int(one(mip, "mip_mip_flags"), 0) == message.flags
        else:
            assert int(one(mip, "mip_mip_code")) == message.code
        found = [Authentication.from_extension(e) for e in message.extensions]
        assert many(mip, "mip_mip_ext_type") == [str(e.type) for e in message.extensions]
        assert [int(spi, 0) for spi in many(mip, "mip_mip_auth_spi")] == [a.spi for a in found]
        assert [bytes.fromhex(a.replace(":", "")) for a in many(mip, "mip_mip_auth_auth")] == [
            a.authenticator for a in found
        ]


def test_tshark_agrees_on_identifications(tmp_path: Path) -> None:
    """`-T ek` prints the identification as a time; the raw bytes of the field are in the JSON with `-x`."""
    file = tmp_path / "mip.pcap"
    wrpcap(str(file), [Ether(udp(m)) for m in registration_messages()])
    out = subprocess.run(
        ["tshark", "-r", file, "-T", "json", "-x", "-n"], capture_output=True, check=True, text=True
    ).stdout
    theirs = [int(p["_source"]["layers"]["mip"]["mip.ident_raw"][0], 16) for p in json.loads(out)]
    ours = [decode(f.data).first(MobileIp) for f in read_capture(file)]
    assert theirs == [layer.message.identification for layer in ours if layer]


def test_tshark_agrees_on_agent_advertisements(tmp_path: Path) -> None:
    file = tmp_path / "adverts.pcap"
    packets = [
        Ether(**MACS) / IP(src="198.51.100.1", dst="224.0.0.1", ttl=1, proto=1) / Raw(m)
        for m in advertisements()
    ]
    wrpcap(str(file), packets)
    for packet, layers in zip((decode(f.data) for f in read_capture(file)), tshark(file), strict=True):
        icmp = layers["icmp"]
        message = packet.first(AgentMessage)
        assert message is not None
        if message.advertisement is None:
            assert one(icmp, "icmp_icmp_type") == "10"
            continue
        advert = message.advertisement
        assert one(icmp, "icmp_icmp_type") == "9"
        assert int(one(icmp, "icmp_icmp_code")) == advert.code
        if advert.mobility is None:
            assert "icmp_icmp_mip_seq" not in icmp
            continue
        assert int(one(icmp, "icmp_icmp_mip_seq")) == advert.mobility.sequence
        assert int(one(icmp, "icmp_icmp_mip_life")) == advert.mobility.registration_lifetime
        assert int(one(icmp, "icmp_icmp_mip_flags"), 0) == advert.mobility.flags
        assert many(icmp, "icmp_icmp_mip_coa") == [str(a) for a in advert.mobility.care_of_addresses]
        assert [int(x) for x in many(icmp, "icmp_icmp_mip_prefixlength")] == list(advert.prefix_lengths or ())


def ike(exchange: int, flags: int, message_id: int) -> bytes:
    head = (0x1122334455667788).to_bytes(8, "big") + (0x99AABBCCDDEEFF00).to_bytes(8, "big")
    return head + bytes((33, 0x20, exchange, flags)) + message_id.to_bytes(4, "big") + (28).to_bytes(4, "big")


def test_tshark_agrees_on_ike_esp_and_dhcp(tmp_path: Path) -> None:
    file = tmp_path / "other.pcap"
    packets = [
        udp(ike(34, 0x08, 0), 500, 500, dst=GW),
        udp(bytes(4) + ike(35, 0x20, 1), 4500, 4500, dst=GW),
        udp(bytes(ESP(spi=0xC0FFEE01, seq=7, data=bytes(40))), 4500, 4500, dst=GW),
        frame(IP(src=str(COA), dst=str(GW)) / ESP(spi=0xC0FFEE02, seq=8, data=bytes(40))),
        frame(
            IP(src="198.51.100.65", dst="255.255.255.255")
            / UDP(sport=67, dport=68)
            / BOOTP(op=2, yiaddr=str(COA), chaddr=bytes(6))
            / DHCP(options=[("message-type", "offer"), ("server_id", "198.51.100.65"), "end"])
        ),
    ]
    wrpcap(str(file), [Ether(p) for p in packets])
    theirs = tshark(file)
    ours = [decode(f.data) for f in read_capture(file)]
    for index in (0, 1):
        layer, isakmp = ours[index].first(Ike), theirs[index]["isakmp"]
        assert layer is not None
        assert int(one(isakmp, "isakmp_isakmp_exchangetype")) == layer.exchange
        assert int(one(isakmp, "isakmp_isakmp_messageid"), 0) == layer.message_id
        assert one(isakmp, "isakmp_isakmp_ispi").replace(":", "") == f"{layer.initiator_spi:016x}"
        assert one(isakmp, "isakmp_isakmp_rspi").replace(":", "") == f"{layer.responder_spi:016x}"
        assert bool(one(isakmp, "isakmp_isakmp_flag_r")) == layer.response
        assert bool(one(isakmp, "isakmp_isakmp_flag_i")) == layer.from_initiator
        assert layer.encapsulated == bool(index)
    for index in (2, 3):
        esp, found = ours[index].first(Esp), theirs[index]["esp"]
        assert esp is not None
        assert int(one(found, "esp_esp_spi"), 0) == esp.spi
        assert int(one(found, "esp_esp_sequence")) == esp.sequence
    dhcp, found = ours[4].first(Dhcp), theirs[4]["dhcp"]
    assert dhcp is not None
    assert int(one(found, "dhcp_dhcp_option_dhcp")) == dhcp.type == 2
    assert one(found, "dhcp_dhcp_ip_your") == str(dhcp.offered)
    assert one(found, "dhcp_dhcp_option_dhcp_server_id") == str(dhcp.server)


def names() -> Names:
    return topology_names(load_topology("scenario-2.1"))


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (
            IP(src="198.51.100.70", dst="10.0.1.2")
            / IP(src="10.0.1.100", dst="10.0.4.10")
            / ICMP(type=8, seq=3),
            "IP mn@hotel→ha | IP mn→cn | ICMP echo request #3",
        ),
        (
            IP(src="198.51.100.70", dst="203.0.113.2")
            / UDP(sport=4500, dport=4500)
            / Raw(b"\xc0\xff\xee\1\0\0\0\7"),
            "IP mn@hotel→gw | UDP 4500 | ESP c0ffee01 #7",
        ),
        (
            IP(src="10.0.250.3", dst="10.0.1.2")
            / UDP(sport=434, dport=434)
            / Raw(RegistrationRequest(0x22, 600, MN, HA, IPv4Address("10.0.250.3"), 9).encode()),
            "IP mn@vpn→ha | UDP 434 | registration request mn at mn@vpn, lifetime 600 s [DT]",
        ),
        (
            IP(src="0.0.0.0", dst="198.51.100.1")
            / UDP(sport=434, dport=434)
            / Raw(RegistrationRequest(2, 600, NONE, HA, FA, 9, (nai.encode("mn@example.net"),)).encode()),
            "IP 0.0.0.0→fa-hotspot | UDP 434 | "
            "registration request mn@example.net at fa-hotspot, lifetime 600 s [T]",
        ),
        (
            IP(src="10.0.1.2", dst="198.51.100.70")
            / UDP(sport=434, dport=434)
            / Raw(RegistrationReply(131, 0, MN, HA, 9).encode()),
            "IP ha→mn@hotel | UDP 434 | "
            "registration reply ha-mobile-node-failed-authentication (131), lifetime 0 s",
        ),
        (
            IP(src="198.51.100.1", dst="224.0.0.1", proto=1) / Raw(advertisements()[0]),
            "IP fa-hotspot→all-systems | "
            "ICMP agent advertisement #17 [RFT], care-of fa-hotspot, lifetime 3 s",
        ),
        (
            IP(src="10.0.0.1", dst="10.0.1.100")
            / ICMP(type=3, code=13)
            / IP(src="10.0.1.100", dst="10.0.4.10")
            / UDP(sport=7, dport=9),
            "IP gw→mn | ICMP administratively prohibited (about IP mn→cn | UDP 7→9)",
        ),
        (
            IP(src="10.0.4.10", dst="192.0.2.9") / TCP(sport=80, dport=4000, flags="SA"),
            "IP cn→192.0.2.9 | TCP 80→4000 [SYN ACK] 0 bytes",
        ),
        (IP(src="10.0.0.1", dst="224.0.0.5", proto=89) / Raw(bytes(44)), "IP gw→224.0.0.5 | OSPF, 44 bytes"),
        (
            IP(src="198.51.100.70", dst="203.0.113.2") / UDP(sport=4500, dport=4500) / Raw(b"\xff"),
            "IP mn@hotel→gw | UDP 4500 | NAT keep-alive",
        ),
    ],
)
def test_one_line_names_nodes(packet: ScapyPacket, text: str) -> None:
    assert decode(frame(packet)).text(names()) == text
    assert decode(bytes(packet), RAW_IP).text(names()) == text


def in_minimal(packet: ScapyPacket, source: str, destination: str) -> ScapyPacket:
    inner = IP(bytes(packet))
    head = bytes((inner.proto, 0 if inner.src == source else 0x80)) + bytes(2) + inet_aton(inner.dst)
    head += b"" if inner.src == source else inet_aton(inner.src)
    head = head[:2] + checksum(head).to_bytes(2, "big") + head[4:]
    return IP(src=source, dst=destination, proto=55, ttl=inner.ttl) / Raw(head + bytes(inner.payload))


ECHO = IP(src="10.0.4.10", dst="10.0.1.100") / ICMP(type=0, id=1, seq=3)


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (IP(src=str(HA), dst=str(COA)) / ECHO, "IP ha→mn@hotel | IP cn→mn | ICMP echo reply #3"),
        (
            IP(src=str(HA), dst=str(COA)) / GRE() / ECHO,
            "IP ha→mn@hotel | GRE | IP cn→mn | ICMP echo reply #3",
        ),
        (
            IP(src=str(HA), dst=str(COA)) / GRE(chksum_present=1) / ECHO,
            "IP ha→mn@hotel | GRE | IP cn→mn | ICMP echo reply #3",
        ),
        (
            IP(src=str(HA), dst=str(COA)) / GRE(key_present=1, key=7, seqnum_present=1) / ECHO,
            "IP ha→mn@hotel | GRE with key or sequence number | IP cn→mn | ICMP echo reply #3",
        ),
        (
            IP(src=str(HA), dst=str(COA)) / GRE(proto=0x86DD) / Raw(bytes(40)),
            "IP ha→mn@hotel | GRE | IPv6, 40 bytes",
        ),
        (in_minimal(ECHO, str(HA), str(COA)), "IP ha→mn@hotel | Min-Enc cn→mn | ICMP echo reply #3"),
        (in_minimal(ECHO, "10.0.4.10", str(COA)), "IP cn→mn@hotel | Min-Enc cn→mn | ICMP echo reply #3"),
        (
            in_minimal(in_minimal(ECHO, "10.0.4.10", "10.0.1.100"), str(HA), str(COA)),
            "IP ha→mn@hotel | Min-Enc cn→mn | Min-Enc cn→mn | ICMP echo reply #3",
        ),
    ],
)
def test_tunnels(packet: ScapyPacket, text: str) -> None:
    assert decode(frame(packet)).text(names()) == text


def test_headers_of_tunnels_that_cannot_be_read() -> None:
    damaged = bytearray(frame(in_minimal(ECHO, str(HA), str(COA))))
    damaged[14 + 20 + 5] ^= 1
    for packet in (
        bytes(damaged),
        frame(IP(proto=55) / Raw(b"1234567")),
        frame(IP(proto=47) / Raw(b"\0\1\x08\0")),
    ):
        assert isinstance(decode(packet).layers[-1], Malformed)


def test_tshark_agrees_on_gre(tmp_path: Path) -> None:
    file = tmp_path / "gre.pcap"
    outer = IP(src=str(HA), dst=str(COA))
    packets = [
        outer / GRE() / ECHO,
        outer / GRE(chksum_present=1) / ECHO,
        outer / GRE(key_present=1, key=7) / ECHO,
    ]
    wrpcap(str(file), [Ether(frame(packet)) for packet in packets])
    for captured, theirs in zip(read_capture(file), tshark(file), strict=True):
        ours = decode(captured.data)
        gre, ips = ours.first(Gre), ours.all(Ipv4)
        assert gre is not None
        assert gre.protocol == int(one(theirs["gre"], "gre_gre_proto"), 0)
        assert gre.checksum == (one(theirs["gre"], "gre_gre_flags_checksum") in (True, "1"))
        assert gre.extended == (one(theirs["gre"], "gre_gre_flags_key") in (True, "1"))
        assert [str(ip.destination) for ip in ips] == [one(each, "ip_ip_dst") for each in many(theirs, "ip")]


def test_arp_and_padding() -> None:
    packet = decode(frame(ARP(op=2, psrc="10.0.1.2", pdst="10.0.1.1", hwsrc=MACS["src"])) + bytes(18))
    assert packet.first(Arp) is not None
    assert packet.text(names()) == "ARP ha is at 02:00:00:00:00:01"
    empty = decode(frame(IP(src="10.0.1.2", dst="10.0.1.1") / TCP(sport=1, dport=2, flags="A")) + bytes(6))
    tcp = empty.first(Tcp)
    assert tcp is not None and tcp.payload == 0  # an Ethernet frame's padding is no payload


def test_flow_leaves_out_what_counts() -> None:
    packets = [
        decode(udp(bytes(ESP(spi=5, seq=n, data=bytes(20))), 4500, 4500, dst=GW)).flow(names())
        for n in (1, 2)
    ]
    assert packets[0] == packets[1] == ("IP mn@hotel→gw", "UDP 4500", "ESP 00000005")


def test_fragments_and_unreadable_messages() -> None:
    packet = decode(frame(IP(src="10.0.1.2", dst="10.0.1.1", proto=17, frag=5) / Raw(b"12345678")))
    assert packet.text() == "IP 10.0.1.2→10.0.1.1 | fragment, 8 bytes"
    unknown = RegistrationReply(0, 1, MN, HA, 9).encode() + bytes((77, 2, 0, 0))  # a type that must be known
    layer = decode(udp(unknown)).first(MobileIp)
    assert layer is not None and not layer.complete and "unreadable" in layer.text(str)
    short = decode(udp(unknown[:10]))
    assert short.layers[-1].kind == "malformed"
    assert decode(udp(b"\x63rubbish")).layers[-1].text(str) == "Mobile IP type 99, 8 bytes"
    assert decode(udp(bytes(4) + b"short", 4500, 4500)).layers[-1].kind == "malformed"
    assert decode(b"x" * 30, 9999).text() == "link type 9999, 30 bytes"


def test_nesting_is_bounded() -> None:
    packet = IP(src="10.0.1.2", dst="10.0.1.1") / ICMP()
    for _ in range(40):
        packet = IP(src="10.0.1.2", dst="10.0.1.1") / packet
    assert len(decode(frame(packet)).layers) == 17


@given(st.binary(max_size=200), st.sampled_from([ETHERNET, RAW_IP, LINUX_SLL, LINUX_SLL2, 0]))
def test_no_bytes_make_it_raise(data: bytes, linktype: int) -> None:
    decode(data, linktype).text()
    decode(data, linktype).flow()


@given(st.data(), st.sampled_from([*registration_messages(), *advertisements()]))
def test_no_broken_message_makes_it_raise(data: st.DataObject, message: bytes) -> None:
    where = data.draw(st.integers(0, len(message) - 1))
    broken = message[:where] + bytes((data.draw(st.integers(0, 255)),)) + message[where + 1 :]
    broken = broken[: data.draw(st.integers(1, len(message)))]
    for made in (udp(broken), frame(IP(src="10.0.1.2", dst="10.0.1.1", proto=1) / Raw(broken))):
        assert isinstance(decode(made).layers[1], Ipv4 | Malformed)
        decode(made).text()


def test_cooked_captures() -> None:
    inner = IP(src="10.0.1.2", dst="10.0.1.1") / ICMP()
    sll = decode(
        bytes(CookedLinux(pkttype=4, lladdrlen=6, src=b"\2\0\0\0\0\1\0\0", proto=0x800) / inner), LINUX_SLL
    )
    assert sll.text() == "IP 10.0.1.2→10.0.1.1 | ICMP echo request #0"
    sll2 = decode(bytes.fromhex("0800000000000007 0001 04 06 0200000000010000") + bytes(inner), LINUX_SLL2)
    link = sll2.layers[0]
    assert (link.interface, link.outgoing, link.source.hex(":")) == (7, True, "02:00:00:00:00:01")  # type: ignore[attr-defined]


FRAMES = [
    Frame(1_700_000_000_123_456_789, ETHERNET, b"a" * 61, 61, "cn/servers"),
    Frame(1_700_000_000_123_456_999, LINUX_SLL2, b"b" * 40, 90, "mn/hotel"),
    Frame(1_700_000_001_000_000_000, ETHERNET, b"c", 1, "cn/servers"),
]


@given(st.lists(st.integers(1, 40), max_size=60))
def test_pcapng_arrives_in_pieces(pieces: list[int]) -> None:
    writer = CaptureWriter()
    data = writer.header() + b"".join(map(writer.frame, FRAMES))
    reader = CaptureReader()
    found = []
    for size in pieces:
        found += reader.feed(data[:size])
        data = data[size:]
    assert found + reader.feed(data) == FRAMES
    assert not reader.pending


def test_tshark_reads_the_comment_of_a_packet(tmp_path: Path) -> None:
    writer, file = CaptureWriter(), tmp_path / "commented.pcapng"
    pieces = [
        writer.frame(FRAMES[0], "hotel mn→router"),
        writer.frame(FRAMES[1]),
        writer.frame(FRAMES[2], "abcd"),
    ]
    file.write_bytes(b"".join((writer.header(), *pieces)))
    assert read_capture(file) == FRAMES
    command = ["tshark", "-r", str(file), "-T", "fields", "-e", "frame.number", "-e", "frame.comment"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1\thotel mn→router", "2\t", "3\tabcd"]


def test_tshark_reads_what_we_write(tmp_path: Path) -> None:
    file = tmp_path / "two.pcapng"
    inner = bytes(IP(src="10.0.1.2", dst="10.0.1.1") / ICMP())
    frames = [
        Frame(1_700_000_000_123_456_789, ETHERNET, frame(Raw(b"")), 14, "cn/servers"),
        Frame(1_700_000_000_123_456_790, RAW_IP, inner, len(inner), "mn/mip0"),
    ]
    writer = CaptureWriter()
    file.write_bytes(writer.header() + b"".join(map(writer.frame, frames)))
    fields = ["-e", "frame.time_epoch", "-e", "frame.interface_name", "-e", "ip.src"]
    out = subprocess.run(
        ["tshark", "-n", "-r", file, "-T", "fields", *fields], capture_output=True, check=True, text=True
    ).stdout.splitlines()
    assert out[0].split("\t")[:2] == ["1700000000.123456789", "cn/servers"]
    assert out[1].split("\t") == ["1700000000.123456790", "mn/mip0", "10.0.1.2"]


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap_of_both_byte_orders_and_resolutions(tmp_path: Path, endian: str, magic: int, unit: int) -> None:
    from struct import pack

    file = tmp_path / "x.pcap"
    head = pack(f"{endian}IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
    record = pack(f"{endian}IIII", 5, 6, 3, 60) + b"abc"
    file.write_bytes(head + record + record[:-1])  # the last one is still being written
    assert read_capture(file) == [Frame(5_000_000_000 + 6 * unit, 1, b"abc", 60)]


def test_files_that_are_no_capture(tmp_path: Path) -> None:
    file = tmp_path / "x.pcap"
    for content, words in ((b"", "empty"), (b"hello", "too short"), (b"x" * 100, "neither pcap nor pcapng")):
        file.write_bytes(content)
        with pytest.raises(CaptureError, match=words) as caught:
            read_capture(file)
        assert caught.value.source is not None and caught.value.source.file == str(file)
    with pytest.raises(CaptureError, match="directory"):
        read_capture(tmp_path)


def test_tshark_agrees_on_tunnel_data(tmp_path: Path) -> None:
    """RFC 3519 §3.3, on both sides of a NAT; what Mobile IP nests in UDP is read to its end."""
    inner = IP(src=str(MN), dst="192.0.2.10") / ICMP(id=3, seq=4)
    packets = [
        udp(bytes(TunnelData(4, bytes(inner)).encode())),
        udp(bytes(TunnelData(4, bytes(inner)).encode()), sport=434, dport=40001, src=HA, dst=COA),
        udp(
            bytes(
                TunnelData(
                    4, bytes(IP(src=str(MN), dst=str(GW)) / ESP(spi=7, seq=1, data=bytes(40)))
                ).encode()
            )
        ),
        udp(bytes(TunnelData(47, b"\0\0\x08\0" + bytes(inner)).encode())),
        udp(bytes(TunnelData.around(55, bytes(inner)).encode())),
        udp(bytes(TunnelData(4, bytes(inner)[:10]).encode())),
    ]
    file = tmp_path / "data.pcap"
    wrpcap(str(file), [Ether(packet) for packet in packets])
    theirs = tshark(file)
    ours = [decode(frame.data, frame.linktype) for frame in read_capture(file)]
    for packet, layers in list(zip(ours, theirs, strict=True))[:3]:
        assert int(one(layers["mip"], "mip_mip_type")) == 4
        (header,) = packet.all(MipUdp)
        assert int(one(layers["mip"], "mip_mip_nattt_nexthdr")) == header.next_header == 4
    texts = [packet.text() for packet in ours]
    assert texts[0] == f"IP {COA}→{HA} | UDP 434 | MIP-UDP | IP {MN}→192.0.2.10 | ICMP echo request #4"
    assert '"icmp_icmp_seq": "4"' in json.dumps(theirs[0])  # it is nested in what carries it
    assert texts[1].startswith(f"IP {HA}→{COA} | UDP 434 | MIP-UDP | IP {MN}→")
    assert texts[2].split(" | ")[2:] == ["MIP-UDP", f"IP {MN}→{GW}", "ESP 00000007 #1"]
    assert texts[3].split(" | ")[2:4] == ["MIP-UDP", "GRE"]
    assert texts[4].split(" | ")[2:] == ["MIP-UDP", f"Min-Enc {MN}→192.0.2.10", "ICMP echo request #4"]
    assert isinstance(ours[5].layers[-1], Malformed)
    assert ["mip" in layers for layers in theirs] == [bool(packet.first(MipUdp)) for packet in ours]
