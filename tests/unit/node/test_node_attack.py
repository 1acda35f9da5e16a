"""What an attacker sends: made up, replayed, rewritten on a path. scapy and tshark read it."""

from __future__ import annotations

import hmac
import subprocess
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.mobileip import MobileIP, MobileIPRRP, MobileIPRRQ
from scapy.packet import Raw
from scapy.utils import wrpcap

from testbed.agreed import MADE_UP
from testbed.node import arp, inject, replay, rewrite
from testbed.node.whole import mended, send

MN, HA, CN, ROUTER, ATTACKER = "198.51.100.90", "203.0.113.40", "192.0.2.10", "198.51.100.65", "203.0.113.66"
HOME = "192.0.2.100"
LINKS = {name: bytes([2, 0, 0, 0, 0, number]) for number, name in enumerate(("attacker", "mn", "router"))}


def made(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[IP]:
    """What `inject` sends with these arguments, read by scapy; its checksums are right."""
    sent: list[bytes] = []
    monkeypatch.setattr(inject, "send", lambda packets, _: sent.extend(packets))
    inject.main(list(arguments))
    for packet in sent:
        read = IP(packet)
        rebuilt = read.copy()
        for layer in (IP, UDP, ICMP):
            if layer in rebuilt:
                del rebuilt[layer].chksum
        assert bytes(rebuilt) == packet
    return [IP(packet) for packet in sent]


def test_tshark_reads_what_is_made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In one capture, as tshark takes long to start."""
    fields = ("mip.type", "mip.ext.type", "mip.auth.spi", "icmp.mip.seq", "icmp.mip.flags", "icmp.mip.coa")
    fields += ("isakmp.exchangetype", "isakmp.notify.msgtype")
    named = ("--home", HOME, "--agent", HA)
    advertised = ("advertisement", ROUTER, "224.0.0.1")
    wanted = {
        ("request", ATTACKER, HA, *named): ["1", "32", "0x00000100", "", "", "", "", ""],
        ("reply", HA, MN, *named): ["3", "32", "0x00000100", "", "", "", "", ""],
        ("reply", HA, MN, *named, "--trusted"): ["3", "149,32", "0x00000100", "", "", "", "", ""],
        advertised: ["", "", "", "1", "0x9100", ROUTER, "", ""],
        (*advertised, "--as-home"): ["", "", "", "1", "0x2100", "", "", ""],
        ("ike", ATTACKER, HA, "--notify", "40961"): ["", "", "", "", "", "", "34", "40961"],
        ("ike", ATTACKER, HA): ["", "", "", "", "", "", "34", ""],
    }
    packets = [packet for made_of in wanted for packet in made(monkeypatch, *made_of, "--count", "1")]
    wrpcap(str(tmp_path / "made.pcap"), packets, linktype=101)
    command = ["tshark", "-r", str(tmp_path / "made.pcap"), "-T", "fields", "-e", "_ws.malformed"]
    for field in fields:
        command += ["-e", field]
    read = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [line.split("\t") for line in read.splitlines()] == [["", *row] for row in wanted.values()]


def test_a_forged_request_lacks_the_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    key = bytes(range(16))
    common = ("request", ATTACKER, HA, "--home", HOME, "--agent", HA, "--count", "1")
    (packet,) = made(monkeypatch, *common, "--key", key.hex())
    assert (packet.src, packet.dst, packet[UDP].dport) == (ATTACKER, HA, 434)
    asked = packet[MobileIPRRQ]
    assert (asked.homeaddr, asked.haaddr, asked.coaddr, asked.flags) == (HOME, HA, ATTACKER, 0x22)
    assert abs((int(asked.id) >> 32) - 2_208_988_800 - time.time()) < 10
    message = bytes(packet[UDP].payload)
    assert message[-16:] == hmac.digest(key, message[:-16], "md5")
    (other,) = made(monkeypatch, *common)
    message = bytes(other[UDP].payload)
    assert message[-16:] != hmac.digest(key, message[:-16], "md5")


def test_a_forged_reply_answers_what_was_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = MobileIP(type=1) / MobileIPRRQ(homeaddr=HOME, haaddr=HA, id=77)
    heard = IP(src=MN, dst=HA) / UDP(sport=4434, dport=434) / asked
    options = ("reply", HA, MN, "--answers", bytes(heard).hex(), "--code", "128", "--trusted", "--count", "1")
    (packet,) = made(monkeypatch, *options)
    assert (packet[UDP].sport, packet[UDP].dport) == (434, 4434)
    said = packet[MobileIPRRP]
    assert (said.code, said.homeaddr, said.haaddr, int(said.id)) == (128, HOME, HA, 77)
    message = bytes(packet[UDP].payload)
    assert message[20:24] == bytes([149, 0, 32, 20])  # the TNC extension, before the authenticator
    (packet,) = made(monkeypatch, "reply", HA, MN, "--home", HOME, "--agent", HA, "--count", "1")
    assert packet[UDP].dport == 434 and packet[MobileIPRRP].code == 0


def test_forged_advertisements_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    packets = made(monkeypatch, "advertisement", ROUTER, "224.0.0.1", "--count", "2")
    assert [(packet.ttl, packet[ICMP].type) for packet in packets] == [(1, 9), (1, 9)]
    assert [bytes(packet)[38:40] for packet in packets] == [b"\0\1", b"\0\2"]


def test_data_in_clear_and_in_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    (plain,) = made(monkeypatch, "udp", HOME, CN, "--count", "1")
    assert plain[Raw].load.decode() == MADE_UP and plain[UDP].dport == 9
    (outer,) = made(monkeypatch, "ipip", HA, MN, "--inner", CN, HOME, "--count", "1")
    inner = outer.payload
    assert (outer.proto, inner.src, inner.dst, inner[Raw].load.decode()) == (4, CN, HOME, MADE_UP)
    esp = made(monkeypatch, "esp", HA, MN)
    assert [packet.proto for packet in esp] == [50, 50, 50] and len(esp[0]) > 60


@pytest.mark.parametrize(
    "arguments",
    [
        ["ipip", HA, MN],
        ["request", HA, MN],
        ["reply", HA, MN],
        ["esp", HA, MN, "--inner", CN, HOME],
        ["advertisement", HA, "224.0.0.1", "--owns", "192.0.2.0/24"],
        ["reply", HA, MN, "--answers", "4500"],
    ],
)
def test_what_cannot_be_made_is_said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        inject.main(arguments)
    assert error.value.code
    assert capsys.readouterr().err


def test_what_is_to_go_on_says_that_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    def few(packets: object, device: str | None) -> None:
        for packet, _ in zip(packets, range(3), strict=False):  # type: ignore[call-overload]
            sent.append(packet)

    monkeypatch.setattr(inject, "send", few)
    printed: list[str] = []
    monkeypatch.setattr("builtins.print", lambda text, flush: printed.append(text))
    inject.main(["udp", HOME, CN, "--every", "1"])
    assert len(sent) == 3 and printed == ["running"]


# Captured, and sent once more.

SENT = [
    IP(src=MN, dst=HA, id=7) / UDP(sport=434, dport=434) / Raw(b"odd"),
    IP(src=MN, dst=HA) / TCP(sport=5, dport=7) / Raw(b"data"),
    IP(src=MN, dst=HA, proto=50) / Raw(bytes(40)),
    IP(src=MN, dst=HA) / IP(src=HOME, dst=CN) / UDP(dport=9) / Raw(b"inner"),
    IP(src=MN, dst=HA, options=[]) / ICMP() / Raw(b"ping"),
]


@pytest.mark.parametrize("packet", SENT, ids=lambda packet: packet.summary())
def test_a_captured_packet_is_mended(packet: IP) -> None:
    right = bytes(packet)
    spoilt = bytearray(right)
    spoilt[10:12] = b"\x12\x34"
    for kind, offset in ((UDP, 6), (TCP, 16)):
        if kind in packet:
            start = right.index(bytes(IP(right)[kind])) + offset
            spoilt[start : start + 2] = b"\x12\x34"  # what the interface would have computed
    assert bytes(spoilt) != right
    assert mended(bytes(spoilt) + b"padding") == right


@pytest.mark.parametrize("packet", SENT, ids=lambda packet: packet.summary())
def test_other_addresses_change_the_checksums(packet: IP) -> None:
    changed = IP(mended(bytes(packet), IPv4Address(ATTACKER), IPv4Address(CN)))
    wanted = packet.copy()
    wanted.src, wanted.dst = ATTACKER, CN
    assert bytes(changed) == bytes(wanted)


def test_no_checksum_stays_none_and_fragments_stay_as_they_are() -> None:
    none = bytes(IP(src=MN, dst=HA) / UDP(chksum=0) / Raw(b"x"))
    assert mended(none) == none
    fragment = bytes(IP(src=MN, dst=HA, flags="MF", proto=17) / Raw(bytes(range(48))))
    assert mended(fragment, IPv4Address(ATTACKER))[20:] == fragment[20:]


@pytest.mark.parametrize("packet", [b"", b"\x60" + bytes(39), bytes(SENT[0])[:-1], b"\x4f" + bytes(19)])
def test_what_is_no_packet_is_refused(packet: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no whole IPv4 packet"):
        mended(packet)
    with pytest.raises(SystemExit):
        replay.main([packet.hex()])
    assert "no whole IPv4 packet" in capsys.readouterr().err


def test_replaying_is_by_the_option_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[IP] = []
    monkeypatch.setattr(replay, "send", lambda packets, device: sent.extend(map(IP, packets)))
    heard = [bytes(packet).hex() for packet in SENT[:2]]
    replay.main([*heard, "--as", ATTACKER, "--to", CN])
    assert [(one.src, one.dst) for one in sent] == [(ATTACKER, CN)] * 2
    sent.clear()
    replay.main(heard)
    assert [bytes(one) for one in sent] == [bytes(one) for one in SENT[:2]]


def test_an_interface_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match=r"."):
        send([bytes(SENT[0])], "nowhere")


# On the path.


@pytest.fixture
def path() -> rewrite.Path:
    addresses = map(IPv4Address, ("198.51.100.126", MN, ROUTER))
    own, victim, router = addresses
    return rewrite.Path(LINKS["attacker"], own, victim, LINKS["mn"], router, LINKS["router"])


def frame(to: str, sender: str, packet: IP) -> bytes:
    """A frame between two of `LINKS`."""
    return bytes(Ether(dst=LINKS[to].hex(":"), src=LINKS[sender].hex(":")) / packet)


def test_requests_go_on_with_another_source_and_answers_come_back(path: rewrite.Path) -> None:
    asked = IP(src=MN, dst=HA) / UDP(sport=434, dport=434) / Raw(b"request")
    out = Ether(path.forward(frame("attacker", "mn", asked)) or b"")
    assert (out.dst, out.src) == (LINKS["router"].hex(":"), LINKS["attacker"].hex(":"))
    asked.src = "198.51.100.126"
    assert bytes(out[IP]) == bytes(asked)
    answer = IP(src=HA, dst="198.51.100.126") / UDP(sport=434, dport=434) / Raw(b"reply")
    back = Ether(path.forward(frame("attacker", "router", answer)) or b"")
    answer.dst = MN
    assert back.dst == LINKS["mn"].hex(":") and bytes(back[IP]) == bytes(answer)


def test_all_else_goes_on_as_it_is_or_is_none_of_its_business(path: rewrite.Path) -> None:
    esp = IP(src=MN, dst=HA, proto=50) / Raw(bytes(40))
    assert bytes(Ether(path.forward(frame("attacker", "mn", esp)) or b"")[IP]) == bytes(esp)
    assert path.forward(frame("router", "mn", esp)) is None  # as before the lie
    own = IP(src=MN, dst="198.51.100.126") / UDP(sport=434)
    assert path.forward(frame("attacker", "mn", own)) is None
    unasked = IP(src=HA, dst="198.51.100.126") / UDP(sport=434, dport=434)
    assert path.forward(frame("attacker", "router", unasked)) is None


def test_the_lie_and_the_truth(path: rewrite.Path) -> None:
    for lie, link in ((path.lie(), "attacker"), (path.truth(), "router")):
        told = Ether(lie)
        assert told.dst == LINKS["mn"].hex(":")
        # Linux takes it for gratuitous, and believes it at once, with both link addresses the same.
        assert (told[ARP].op, told[ARP].psrc, told[ARP].pdst) == (2, ROUTER, ROUTER)
        assert told[ARP].hwsrc == told[ARP].hwdst == LINKS[link].hex(":")


def test_answers_for_a_whole_network() -> None:
    network, own = IPv4Network("192.0.2.0/24"), LINKS["attacker"]
    ask = Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(
        hwsrc=LINKS["mn"].hex(":"), psrc=HOME, pdst="192.0.2.1", hwdst="00:00:00:00:00:00"
    )
    said = Ether(arp.answer(bytes(ask), own, network) or b"")
    assert (said.dst, said[ARP].op, said[ARP].psrc, said[ARP].hwsrc) == (
        LINKS["mn"].hex(":"), 2, "192.0.2.1", own.hex(":"),
    )  # fmt: skip
    for change in ({"pdst": ROUTER}, {"op": 2}, {"psrc": "192.0.2.1"}, {"hwsrc": own.hex(":")}):
        other = ask.copy()
        for name, value in change.items():
            setattr(other[ARP], name, value)
        assert arp.answer(bytes(other), own, network) is None
    assert arp.answer(bytes(ask)[:20], own, network) is None


def test_a_node_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = tmp_path / "arp"
    table.write_text(
        "IP address HW type Flags HW address Mask Device\n"
        "127.0.0.2 0x1 0x2 02:00:00:00:00:01 * hotel\n127.0.0.3 0x1 0x0 00:00:00:00:00:00 * hotel\n"
    )
    monkeypatch.setattr(rewrite, "NEIGHBOURS", table)
    monkeypatch.setattr(rewrite, "PATIENCE", 0.05)
    assert rewrite.link_address("hotel", IPv4Address("127.0.0.2")) == LINKS["mn"]
    for address, device in (("127.0.0.3", "hotel"), ("127.0.0.2", "airport")):
        with pytest.raises(rewrite.Unreachable, match="does not answer"):
            rewrite.link_address(device, IPv4Address(address))
