"""Watching a lab: which taps a target means, and frames of several nodes in order of time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address
from struct import pack
from typing import Any

import pytest
from lab_world import EndingSession

from testbed.engine import names as labels
from testbed.engine.api import Container, Stream
from testbed.errors import UsageError
from testbed.lab.state import ActualLab
from testbed.lab.tap import NO_ROUTING, Wanted, find_taps, lab_names, read_target, see, watch
from testbed.lab.tcpdump import WHOLE
from testbed.packet.pcap import LINUX_SLL2

LINKS: dict[str, dict[str, str | None]] = {
    "core": {"internet": "203.0.113.1/24"},
    "ha": {"internet": "203.0.113.40/32", "home": "192.0.2.1/24"},
    "mn": {"hotel": None, "home": None},
    "router": {"hotel": "198.51.100.65/26", "internet": "203.0.113.20/32"},
}


def container(name: str, state: str = "running") -> Container:
    marks = {labels.NODE: name, labels.LAB: "lab", labels.FACTS: json.dumps({"links": LINKS[name]})}
    return Container(f"id-{name}", f"testbed-lab-{name}", marks, state, "Up", "image")


LAB = ActualLab("lab", tuple(container(name) for name in LINKS), ())


def pcap(linktype: int, *frames: tuple[float, bytes]) -> bytes:
    data = pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, linktype)
    for time, frame in frames:
        data += pack("<IIII", int(time), round(time % 1 * 1e6), len(frame), len(frame)) + frame
    return data


class Session(EndingSession):
    """A command whose output is given; it ends when it has said all, or is told to."""

    def __init__(
        self, pieces: Sequence[tuple[Stream, bytes]], code: int, stays: bool, last: bytes = b""
    ) -> None:
        super().__init__(code)
        self.pieces, self.stays, self.last = pieces, stays, last

    def __iter__(self) -> Iterator[tuple[Stream, bytes]]:
        yield from self.pieces
        if self.stays:
            self.ended.wait(10)
        yield "stderr", self.last


class Engine:
    """Answers `execute` only."""

    def __init__(
        self, answer: Callable[[str, Sequence[str]], tuple[Sequence[tuple[Stream, bytes]], int]]
    ) -> None:
        self.answer = answer
        self.commands: list[tuple[str, Sequence[str]]] = []
        self.sessions: list[Session] = []
        self.last = b""  # what a command says at its end

    def execute(self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False) -> Session:
        self.commands.append((id, command))
        pieces, code = self.answer(id, command)
        session = Session(pieces, code, stays=stdin and code == 0, last=self.last)
        self.sessions.append(session)
        return session


ROOM = ["-B", "16384", "-s", "4096"]
LISTENING: tuple[Stream, bytes] = ("stderr", b"tcpdump: listening on x, link-type EN10MB\n")


def test_targets() -> None:
    assert [tap.name for tap in find_taps(LAB, "ha/home")] == ["ha/home"]
    (node,) = find_taps(LAB, "mn")
    assert node.network is None and node.roaming and not node.sent_only
    network = find_taps(LAB, "hotel")
    assert [tap.name for tap in network] == ["mn/hotel", "router/hotel"]
    assert all(tap.sent_only for tap in network)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere", "no node or network nowhere"),
        ("hote", "hotel"),
        ("ha/hotel", "ha is not on a network hotel"),
        ("he/home", "no node he"),
    ],
)
def test_targets_that_are_none(target: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_taps(LAB, target)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("words", "everywhere", "expression"),
    [
        ((), True, ""),
        (("mn",), False, ""),
        (("mn/hotel", "udp", "port", "434"), False, "(udp port 434)"),
        (("udp", "port", "434"), True, "(udp port 434)"),
        (("udp port 434 or esp",), True, "(udp port 434 or esp)"),
        (("esp",), True, "(esp)"),
        (("udp", "prot", "434"), True, "(udp prot 434)"),  # tcpdump says what is wrong with it
    ],
)
def test_a_place_and_a_filter_are_told_apart(
    words: tuple[str, ...], everywhere: bool, expression: str
) -> None:
    target = read_target(LAB, words[0] if words else None, words[1:])
    assert (target.everywhere, target.expression) == (everywhere, expression)
    assert len(target.taps) == (4 if everywhere else 1)
    hidden = read_target(LAB, words[0] if words else None, words[1:], no_routing=True).expression
    assert hidden == (f"{expression} and ({NO_ROUTING})" if expression else f"({NO_ROUTING})")


def test_a_word_that_is_neither_names_the_nearest_place() -> None:
    with pytest.raises(UsageError, match="no node or network hote\n  hint: did you mean hotel"):
        read_target(LAB, "hote")


@pytest.mark.parametrize(("cut", "receiver"), [("", "router"), ("router", "nobody"), ("mn", "router")])
def test_a_whole_lab_shows_every_packet_once(cut: str, receiver: str) -> None:
    """A copy that came as far as a cut link was not received."""

    def cooked(index: int, kind: int, number: int) -> bytes:
        return bytes.fromhex(f"0800 0000 {index:08x} 0001 {kind:02x} 06 0200000000010000") + bytes(
            [number] * 30
        )

    streams = {
        "id-mn": pcap(LINUX_SLL2, (1.0, cooked(7, 4, 1)), (1.5, cooked(9, 4, 2))),
        "id-router": pcap(
            LINUX_SLL2, (1.00001, cooked(7, 0, 1)), (1.6, cooked(1, 4, 3)), (1.7, cooked(8, 0, 4))
        ),
    }

    def answer(id: str, command: Sequence[str]) -> tuple[Sequence[tuple[Stream, bytes]], int]:
        if "failed" in command[2]:
            return [("stdout", b"hotel\n")] if id == f"id-{cut}" else [], 0
        if "tcpdump" not in command[2]:
            return [("stdout", b"1 lo\n7 hotel\n8 relay0\n9 mip0\n")], 0
        return [LISTENING, ("stdout", streams.get(id, pcap(LINUX_SLL2)))], 0

    engine: Any = Engine(answer)
    target = read_target(LAB, None)
    assert str(target) == "all nodes"
    passages = list(see(engine, LAB, target, Wanted(seconds=0.8)))
    assert [one.seen for one in passages] == [f"hotel mn→{receiver}", "mn/mip0"]


def test_a_node_that_does_not_run_is_left_out() -> None:
    lab = ActualLab("lab", (container("core", "exited"), container("ha")), ())
    assert [tap.node for tap in read_target(lab, None).taps] == ["ha"]
    with pytest.raises(UsageError, match="no node of lab lab runs"):
        read_target(ActualLab("lab", (container("core", "exited"),), ()), None)


def test_names_come_from_the_lab() -> None:
    engine: Any = Engine(lambda *_: ([("stdout", b"127.0.0.1 localhost\n192.0.2.100 mn\n192.0.2.1 ha\n")], 0))
    names = lab_names(engine, LAB)
    assert names(IPv4Address("203.0.113.40")) == names(IPv4Address("192.0.2.1")) == "ha"
    assert names(IPv4Address("192.0.2.100")) == "mn"
    assert names(IPv4Address("198.51.100.99")) == "mn@hotel"
    assert names(IPv4Address("8.8.8.8")) == "8.8.8.8"


def test_a_node_that_does_not_run_is_not_asked_for_names() -> None:
    def answer(id: str, command: Sequence[str]) -> tuple[Sequence[tuple[Stream, bytes]], int]:
        assert id != "id-core", "the container is not running"
        return [("stdout", b"192.0.2.100 mn\n")], 0

    engine: Any = Engine(answer)
    lab = ActualLab("lab", (container("core", "exited"), container("ha"), container("mn")), ())
    assert lab_names(engine, lab)(IPv4Address("192.0.2.100")) == "mn"
    ended = ActualLab("lab", (container("core", "exited"),), ())
    assert lab_names(engine, ended)(IPv4Address("203.0.113.1")) == "core"


def test_frames_of_several_nodes_come_in_order_of_time() -> None:
    streams = {
        "id-core": pcap(1, (1.2, b"b" * 20), (1.4, b"d" * 20)),
        "id-ha": pcap(1, (1.1, b"a" * 20), (1.3, b"c" * 20)),
        "id-router": pcap(1),
    }
    engine: Any = Engine(lambda id, _: ([LISTENING, ("stdout", streams[id])], 0))
    started: list[bool] = []
    taps = find_taps(LAB, "internet")
    frames = list(watch(engine, taps, "udp or icmp", Wanted(4, ready=lambda: started.append(True))))
    assert [frame.data[:1] for frame in frames] == [b"a", b"b", b"c", b"d"]
    assert [frame.interface for frame in frames][:2] == ["ha/internet", "core/internet"]
    assert started == [True]
    assert all(session.ended.is_set() for session in engine.sessions)  # no tcpdump is left running
    arguments = engine.commands[0][1][4:]
    assert list(arguments) == ["-", "", "udp or icmp", *ROOM, "-i", "internet", "-Q", "out"]


def test_a_mobile_node_is_watched_on_all_interfaces() -> None:
    def cooked(index: int) -> bytes:
        return bytes.fromhex(f"0800 0000 {index:08x} 0001 04 06 0200000000010000") + b"E" + bytes(30)

    def answer(id: str, command: Sequence[str]) -> tuple[Sequence[tuple[Stream, bytes]], int]:
        if "ifindex" in command[2] and "tcpdump" not in command[2]:
            return [("stdout", b"1 lo\n7 hotel\n9 mip0\n")], 0
        return [LISTENING, ("stdout", pcap(LINUX_SLL2, (1.0, cooked(7)), (1.1, cooked(9))))], 0

    engine: Any = Engine(answer)
    frames = list(watch(engine, find_taps(LAB, "mn"), wanted=Wanted(2)))
    assert [frame.interface for frame in frames] == ["mn/hotel", "mn/mip0"]
    assert list(engine.commands[0][1][4:]) == ["-", "", "", *ROOM, "-i", "any"]
    engine.commands.clear()
    (frame,) = watch(engine, find_taps(LAB, "mn/hotel"), wanted=Wanted(1))
    assert frame.interface == "mn/hotel"
    assert list(engine.commands[0][1][4:]) == ["-", "hotel", "", *ROOM, "-i", "any"]


def test_it_ends_in_time_and_when_closed() -> None:
    engine: Any = Engine(lambda *_: ([LISTENING, ("stdout", pcap(1, (1.0, b"x" * 20)))], 0))
    assert len(list(watch(engine, find_taps(LAB, "ha/home"), wanted=Wanted(seconds=0.3)))) == 1
    frames = watch(engine, find_taps(LAB, "ha/home"))
    next(frames)
    frames.close()
    assert all(session.ended.is_set() for session in engine.sessions)


def test_what_was_not_captured_is_counted_whoever_ends_it() -> None:
    engine: Any = Engine(lambda *_: ([LISTENING, ("stdout", pcap(1, (1.0, b"x" * 20)))], 0))
    lacking: list[int] = []
    wanted = Wanted(1, octets=WHOLE, lacking=lacking.append)
    for engine.last in (
        b"2 packets captured\n0 packets dropped by kernel\n",
        b"14 packets dropped by kernel\n",
    ):
        list(watch(engine, find_taps(LAB, "internet"), wanted=wanted))
    assert lacking == [3 * 14]
    frames = watch(engine, find_taps(LAB, "ha/home"), wanted=wanted)
    next(frames)
    frames.close()
    assert lacking == [3 * 14, 14]
    assert engine.commands[-1][1][7:11] == ["-B", "16384", "-s", "65555"]


def test_a_filter_that_tcpdump_refuses() -> None:
    said = b"tcpdump: data link type LINUX_SLL2\ntcpdump: can't parse filter expression: syntax error\n"
    engine: Any = Engine(lambda *_: ([("stderr", said)], 1))
    with pytest.raises(UsageError, match="cannot capture at ha/home: can't parse filter"):
        list(watch(engine, find_taps(LAB, "ha/home"), "bogus filter"))
