"""pcap filters on the host: libpcap's verdict on filters, and on frames that scapy made."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from pcap_filters import BAD, GOOD, HOSTS, PACKETS, frames

from testbed.claim.expect.wire import Packets
from testbed.errors import StepError
from testbed.evidence.verdicts import KINDS
from testbed.packet.filters import FilterError, filter_hosts, without_names
from testbed.packet.match import match
from testbed.packet.pcap import (
    ETHERNET,
    LINUX_SLL2,
    RAW_IP,
    CaptureError,
    Frame,
    read_linktype,
    write_pcap,
)
from testbed.packet.taps import Matched, TapFrames, match_taps
from testbed.topology.load import builtin_topologies, load_topology
from testbed.topology.names import host_addresses

NAMES = {"ha", "foo", "ESP", "portt", "prot"}  # libpcap would ask the resolver; the node image's tcpdump may


def found(text: str, linktype: int = ETHERNET, hosts: Mapping[str, IPv4Address] = HOSTS) -> set[str]:
    every = frames(linktype)
    matched = match(every.values(), text, hosts)
    return {name for name, frame in every.items() if frame in matched}


def refused(text: str) -> bool:
    try:
        match([Frame(0, ETHERNET, bytes(60), 60)], text, HOSTS)
    except FilterError as error:
        return "rejects all packets" not in str(error) and "capture of an interface" not in str(error)
    return False


def test_libpcap_agrees_with_the_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.packet.match.without_names", lambda text, hosts: text)
    resolved = [text for text in GOOD if without_names(text, {}) != text]  # for the host's databases too
    assert not [text for text in GOOD if text not in resolved and refused(text)]
    assert not [text for text in BAD if not NAMES & set(text.split()) and not refused(text)]


@pytest.mark.parametrize("text", GOOD)
def test_libpcap_compiles_it_without_names(text: str) -> None:
    assert not refused(text)


@pytest.mark.parametrize("linktype", [ETHERNET, LINUX_SLL2, RAW_IP])
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("esp", {"esp"}),
        ("ip proto 50 or udp port ipsec-nat-t", {"esp", "nat-t"}),
        ("udp port isakmp", {"ike"}),
        ("udp src port 434 and udp[8] = 3", {"reply"}),
        ("udp", {"nat-t", "ike", "reply", "later"}),
        ("udp[4:2] > 0", {"nat-t", "ike", "reply"}),  # a later fragment has no header of UDP
        ("ip proto ipencap and src host fa-office", {"inside"}),
        ("src host ha", {"reply"}),
        ("host fa-office or mn", {"esp", "nat-t", "ike", "reply", "inside", "later"}),
        ("ip and dst net 10.0.1.0/24 and not src host mn", {"reply", "inside"}),
        ("ip[6:2] & 0x1fff != 0", {"later"}),
    ],
)
def test_frames(text: str, names: set[str], linktype: int) -> None:
    assert found(text, linktype) == names


def test_all_and_none() -> None:
    assert found("") == {*PACKETS, "arp"}
    assert found("arp host ha") == {"arp"}
    assert found("esp", hosts={}) == {"esp"} and not found("tcp")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("src host hb", "unknown host hb"),
        ("udp portt 434", "does not fit here"),
        ("udp and tcp", "rejects all packets"),
        ("inbound", "the capture of an interface"),
        ("ip\0", "does not fit here"),
    ],
)
def test_refused(text: str, why: str) -> None:
    with pytest.raises(FilterError, match=why):
        found(text)


def test_refused_for_a_link_type() -> None:
    assert found("ether host 02:00:00:00:00:01")
    with pytest.raises(FilterError, match="ethernet addresses"):
        found("ether host 02:00:00:00:00:01", LINUX_SLL2)


def test_what_the_capture_did_not_keep() -> None:
    whole = frames()["esp"]
    cut = Frame(0, ETHERNET, whole.data[:60], 5000)
    assert match([cut], "greater 4000", {}) == match([cut], "esp", {}) == [cut]
    assert not match([cut], "less 4000", {}) and not match([cut], "ip[50] = 0", {})
    assert match([whole], "ip[50] = 0", {})


def test_no_name_is_left() -> None:
    assert without_names("src host ha and (udp port isakmp or ip proto ospf) or not host \\mn", HOSTS) == (
        "src host 10.0.1.2 and (udp port 500 or ip proto 89) or not host 10.0.1.100"
    )
    assert (
        without_names("portrange ssh-http or ether proto \\ip", {}) == "portrange 22-80 or ether proto \\ip"
    )
    with pytest.raises(FilterError, match="hardware address"):
        without_names("ether host ha", HOSTS)


@pytest.mark.parametrize("name", builtin_topologies())
def test_every_built_in_filter_compiles(name: str) -> None:
    loaded = load_topology(name)
    hosts = host_addresses(loaded)
    for claim in loaded.topology.claims.values():
        for kind in KINDS:
            for _, run in claim.experiments(kind):
                for _, expectation in run.expectations():
                    if isinstance(expectation.part, Packets) and run.topology is None:
                        text = expectation.part.filter
                        assert set(filter_hosts(text)) <= hosts.keys()
                        match(frames(LINUX_SLL2).values(), text, hosts)


def test_the_capture_of_a_tap() -> None:
    every = tuple(frames().values())
    tap = TapFrames("mn/hotel", every, alive=True, dropped=2)
    matched = tap.match("src host mn", HOSTS)
    assert matched == Matched("mn/hotel", every[:3] + every[5:6], 7, True, 2)
    assert matched.packets[0] == bytes(PACKETS["esp"])
    assert matched.times == (0.0, 1e-9, 2e-9, 5e-9) and matched.after(1e-9).frames == every[2:3] + every[5:6]
    lost = TapFrames("mn/hotel", every[1:]).match("src host mn", HOSTS)
    assert len(lost.frames) == len(matched.frames) - 1 and lost.total == 6


def test_a_filter_is_wrong_on_a_tap_without_frames_too() -> None:
    """Nothing matched by a filter that is none must not look like silence."""
    for expression in ("udp or and", "wlan type mgt"):
        with pytest.raises(FilterError):
            TapFrames("mn/hotel", ()).match(expression, HOSTS)
        with pytest.raises(StepError, match="mn/hotel: filter"):
            match_taps([TapFrames("mn/hotel", (), linktype=RAW_IP)], expression, HOSTS)
    address = "ether src 02:00:00:00:00:01"  # which the cooked header of all interfaces has no place for
    assert TapFrames("gw/internet", (), linktype=ETHERNET).match(address, HOSTS).frames == ()
    with pytest.raises(FilterError):
        TapFrames("mn/hotel", (), linktype=RAW_IP).match(address, HOSTS)


def test_a_capture_without_frames_has_a_link_type(tmp_path: Path) -> None:
    write_pcap(tmp_path / "empty.pcap", LINUX_SLL2, ())
    assert read_linktype(tmp_path / "empty.pcap") == LINUX_SLL2
    with pytest.raises(CaptureError, match="No such file"):
        read_linktype(tmp_path / "none.pcap")
