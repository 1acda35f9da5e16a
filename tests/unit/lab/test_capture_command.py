"""`capture` as users type it: what it refuses, and what it prints of a packet."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from lab_world import MIP, Run
from scapy.all import IP, UDP, Ether, Raw

from testbed.cli.capture import _show
from testbed.cli.output import console
from testbed.lab.passages import Passage
from testbed.packet.names import Names
from testbed.packet.pcap import ETHERNET, Frame


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--decrypt",), "--decrypt writes keys beside the file"),
        (("--decrypt", "-w", "-"), "hint: add -w FILE.pcapng"),
        (("--decrypt", "-w", "x.pcapng"), "no node of lab plain-mip runs charon"),
        (("nowhere",), "lab plain-mip has no node or network nowhere"),
    ],
)
def test_what_cannot_be_captured(run: Run, arguments: tuple[str, ...], words: str) -> None:
    run("up", MIP)
    code, out, err = run("capture", "plain-mip", *arguments)
    assert code == 2 and words in err and out == "" and "Traceback" not in err


def test_a_packet_in_a_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    packet = (
        IP(src="203.0.113.2", dst="198.51.100.73")
        / IP(src="10.0.4.10", dst="10.0.250.1")
        / UDP(sport=9, dport=9)
    )
    data = bytes(Ether() / packet / Raw(b"x"))
    names = Names(
        {IPv4Address("203.0.113.2"): "gw", IPv4Address("10.0.4.10"): "cn"},
        [(IPv4Network("198.51.100.64/26"), "mn@hotel"), (IPv4Network("10.0.250.0/24"), "mn@vpn")],
    )
    passage = Passage(Frame(0, ETHERNET, data, len(data), "hotel"), "router", ["mn"])
    lines = {}
    for colour, environment in ((True, {"FORCE_COLOR": "1"}), (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"})):
        console.cache_clear()
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        _show(passage, names, everywhere=True)
        lines[colour] = capsys.readouterr().out
    console.cache_clear()
    assert "hotel router→mn" in lines[False] and "gw→mn@hotel | " not in lines[True]
    assert "\x1b[36mhotel router→mn" in lines[True]
    coloured = [
        code
        for code in ("30", "31", "32", "33", "34", "35", "36")
        if f"[{code}m" in lines[False] or f";{code}m" in lines[False]
    ]
    assert coloured == []
    for word in ("IP gw→mn@hotel", "IP cn→mn@vpn", "UDP 9→9"):
        assert word in lines[False]
