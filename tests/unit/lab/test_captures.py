"""Reading captures out of nodes: by pieces, by interface, matched on the host, written for the report."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from lab_world import EndingSession
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import CookedLinuxV2, Ether
from scapy.packet import Raw

from testbed.errors import StepError
from testbed.lab import captures as captures_module
from testbed.lab.captures import Captures
from testbed.lab.inside import Done
from testbed.packet.decode import above_link
from testbed.packet.pcap import ETHERNET, LINUX_SLL2, Frame, packet_mark, read_capture, write_pcap
from testbed.packet.taps import Matched, match_taps
from testbed.topology.load import load_topology
from testbed.topology.names import host_addresses

MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


class Session(EndingSession):
    """A tcpdump that listens until it may end."""

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        yield "stderr", b"tcpdump: listening on x\n"
        if self.ended.wait(10):
            yield "stderr", b"9 packets captured\n1 packet dropped by kernel\n"


class Lab:
    """Nodes whose capture files are files here: the commands that read them are carried out, and counted."""

    def __init__(self, folder: Path) -> None:
        self.topology = load_topology("scenario-2.1")
        self.folder = folder
        self.code = 0
        self.interfaces = {1: "lo", 4: "hotel"}
        self.reads: list[tuple[str, int]] = []  # node, and the first octet asked for

    def session(self, node: str, command: Sequence[str], *, stdin: bool) -> Session:
        assert stdin
        return Session(self.code)

    def file(self, node: str, network: str) -> Path:
        return self.folder / f"{node}-{network}"

    def execute(self, node: str, command: Sequence[str], *, within: float) -> Done:
        shell, option, script, name, first, path, kind = command
        self.reads.append((node, int(first)))
        local = str(self.file(node, Path(path).stem))
        done = subprocess.run(
            [shell, option, script, name, first, local, "fixed"], capture_output=True, check=False
        )
        listing = "".join(f"{number} {name}\n" for number, name in self.interfaces.items())
        head = listing.encode() if kind == "any" else b""
        return Done(done.returncode, head + done.stdout, done.stderr)


def ping(number: int, source: str = "10.0.1.100") -> IP:
    return IP(src=source, dst="10.0.4.10") / ICMP(seq=number) / Raw(bytes(20))


def ethernet(*packets: Any) -> list[Frame]:
    return [
        Frame(number * 10**9 + 1000, ETHERNET, data, len(data))
        for number, packet in enumerate(packets, 1)
        if (data := bytes(Ether(**MACS) / packet))
    ]


def cooked(*packets: tuple[int, Any]) -> list[Frame]:
    return [
        Frame(number * 10**9 + 1000, LINUX_SLL2, data, len(data))
        for number, (index, packet) in enumerate(packets, 1)
        if (data := bytes(CookedLinuxV2(proto=0x0800, ifindex=index) / packet))
    ]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def running(lab: Any, *taps: str) -> Captures:
    captures = Captures(lab, taps)
    captures.start()
    return captures


def matches(lab: Lab, captures: Captures, expression: str) -> list[Matched]:
    return match_taps(captures.look(captures.taps), expression, host_addresses(lab.topology))


def test_a_look_asks_for_what_is_new(lab: Lab) -> None:
    """A file grows by parts of a packet; each octet is fetched once, and nothing after the end."""
    file = lab.file("gw", "internet")
    write_pcap(file, ETHERNET, ethernet(*map(ping, range(3))))
    whole = file.read_bytes()
    captures = running(lab, "gw/internet")
    seen = []
    for size in (24, 102, 103, len(whole)):
        file.write_bytes(whole[:size])
        seen.append(len(matches(lab, captures, "icmp")[0].frames))
    assert seen == [0, 1, 1, 3]
    assert lab.reads == [("gw", 1), ("gw", 25), ("gw", 103), ("gw", 104)]
    captures.stop()
    captures.stop()
    for text in ("icmp", "src host mn", "udp"):
        matched = matches(lab, captures, text)[0]
        assert (len(matched.frames), matched.total) == (0 if text == "udp" else 3, 3)
        assert matched.alive and matched.dropped == captures.dropped == 1
    captures.fetch(lab.folder / "out")
    assert lab.reads[4:] == [("gw", len(whole) + 1)]
    assert read_capture(lab.folder / "out/gw-internet.pcap") == read_capture(file)
    assert (lab.folder / "out/gw-internet.pcap").read_bytes() == whole


def test_names_are_those_of_the_topology(lab: Lab) -> None:
    write_pcap(lab.file("gw", "internet"), ETHERNET, ethernet(ping(1), ping(2, "10.0.1.2")))
    captures = running(lab, "gw/internet")
    assert [len(matches(lab, captures, f"src host {name}")[0].frames) for name in ("mn", "gw")] == [1, 0]
    with pytest.raises(StepError, match=r"gw/internet: filter 'host hb': unknown host hb"):
        matches(lab, captures, "host hb")[0]


def test_the_taps_of_a_mobile_node_are_known_by_number(lab: Lab) -> None:
    file = lab.file("mn", "any")
    frames = cooked((4, ping(1)), (1, ping(2)), (7, ping(3)), (4, ping(4)), (9, ping(5)))
    write_pcap(file, LINUX_SLL2, frames[:2])
    captures = running(lab, "mn/hotel", "mn/campus")
    with pytest.raises(StepError, match="mn has no interface campus"):
        matches(lab, captures, "icmp")  # what is not there must not look like silence
    lab.interfaces[7] = "campus"
    write_pcap(file, LINUX_SLL2, frames)
    lab.reads.clear()
    hotel, campus = matches(lab, captures, "icmp")
    assert len(lab.reads) == 1  # for both taps
    assert (hotel.frames, campus.frames) == ((frames[0], frames[3]), (frames[2],))
    assert (hotel.total, campus.total) == (2, 1)
    lab.interfaces = {1: "lo", 9: "hotel"}  # made anew; what it was called before is not forgotten
    captures.stop()
    hotel, campus = captures.look(captures.taps)
    assert (hotel.frames, campus.frames) == ((frames[0], frames[3], frames[4]), (frames[2],))
    paths = captures.fetch(lab.folder / "out")
    assert [path.name for path in paths] == ["mn-hotel.pcap", "mn-campus.pcap"]
    assert read_capture(paths[0]) == list(hotel.frames)


def test_an_empty_tap_has_a_file_that_can_be_read(lab: Lab) -> None:
    write_pcap(lab.file("mn", "any"), LINUX_SLL2, cooked((1, ping(1))))
    captures = running(lab, "mn/hotel")
    captures.stop()
    (path,) = captures.fetch(lab.folder / "out")
    assert read_capture(path) == []


def test_marks_are_those_of_the_file(lab: Lab) -> None:
    """A report finds in the file what was counted, also where a short frame was padded."""
    short = IP(src="10.0.1.100", dst="10.0.4.10") / UDP(sport=434, dport=434) / Raw(b"\1")
    (frame,) = ethernet(short)
    padded = Frame(frame.time, ETHERNET, frame.data.ljust(60, b"\0"), 60)
    write_pcap(lab.file("ha", "home"), ETHERNET, [padded])
    captures = running(lab, "ha/home")
    captures.stop()
    (path,) = captures.fetch(lab.folder / "out")
    (counted,) = matches(lab, captures, "udp port 434")[0].packets
    (written,) = read_capture(path)
    assert packet_mark(counted) == packet_mark(above_link(written)) == packet_mark(bytes(short))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def test_a_lost_file_is_no_silence(lab: Lab) -> None:
    captures = running(lab, "gw/internet")
    with pytest.raises(StepError, match="cannot read the capture at gw/internet: tail"):
        matches(lab, captures, "ip")[0]
    lab.file("gw", "internet").write_bytes(b"")
    with pytest.raises(StepError, match="has no beginning"):
        matches(lab, captures, "ip")[0]
    lab.file("gw", "internet").write_bytes(bytes(100))
    with pytest.raises(StepError, match="neither pcap nor pcapng"):
        matches(lab, captures, "ip")[0]


@pytest.mark.parametrize(("spoil", "code"), [(cut, 0), (lambda file: None, 137)])
def test_a_capture_that_did_not_end_well_is_not_alive(
    lab: Lab, spoil: Callable[[Path], None], code: int
) -> None:
    write_pcap(lab.file("gw", "internet"), ETHERNET, ethernet(ping(1), ping(2)))
    spoil(lab.file("gw", "internet"))
    lab.code = code
    captures = running(lab, "gw/internet")
    captures.stop()
    assert not matches(lab, captures, "ip")[0].alive


def test_the_script_lists_interfaces_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\n\nabc")
    command = ["sh", "-c", captures_module._READ, "sh", "3", str(tmp_path / "f"), "any"]
    out = subprocess.run(command, capture_output=True, check=True).stdout
    listing, _, data = out.partition(b"\n\n")
    assert data == b"abc" and "lo" in captures_module.interface_names(listing.decode()).values()
