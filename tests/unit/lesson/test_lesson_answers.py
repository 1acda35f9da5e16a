"""Which answers are right: read in a played lab, and compared with what a learner types."""

from __future__ import annotations

from contextlib import nullcontext
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest

from testbed.errors import StepError
from testbed.lab.access import Entry, EventLog
from testbed.lab.events import NodeEvent
from testbed.lab.inside import Done
from testbed.lesson.answers import in_kind, is_right, right_answer
from testbed.lesson.bench import Bench
from testbed.lesson.model import Answer
from testbed.packet.pcap import RAW_IP, Frame
from testbed.topology.load import load_topology

PLAIN = load_topology("plain-mip")


def answer(kind: str, source: dict[str, Any], **more: Any) -> Answer:
    return Answer.model_validate({"question": "?", "is": kind, "from": source, **more})


def datagram(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    length = (20 + len(payload)).to_bytes(2, "big")
    header = b"\x45\x00" + length + bytes(4) + bytes((64, protocol)) + bytes(2)
    return header + IPv4Address(source).packed + IPv4Address(destination).packed + payload


ECHO = datagram("192.0.2.10", "192.0.2.100", 1, b"\x08\x00" + bytes(62))
TUNNELLED = datagram("203.0.113.40", "203.0.113.10", 4, ECHO)
REQUEST = datagram(
    "198.51.100.70", "192.0.2.1", 17,
    bytes.fromhex("01b201b200200000" + "01220258" + "c0000264" + "c0000201" + "c6336446" + "00" * 8),
)  # fmt: skip


def bench(**played: Any) -> Bench:
    log = EventLog()
    for name, fields in played.get("events", ()):
        log.add(Entry("mn", NodeEvent(name, "roam", 0.0, fields)))
    frames = [Frame(0, RAW_IP, one, len(one)) for one in played.get("packets", ())]
    access = SimpleNamespace(
        log=log,
        state=lambda node, service: played["state"],
        execute=lambda node, command, within: Done(0, played["output"].encode(), b""),
    )
    made: Any = SimpleNamespace(
        facts=PLAIN,
        access=access,
        after=lambda steps, where: nullcontext(),
        captured=lambda steps, tap, expression, where: (frames, RAW_IP),
    )
    return made


PACKET = {"at": "ha/internet", "filter": "ip"}


@pytest.mark.parametrize(
    ("kind", "source", "played", "right"),
    [
        ("number", {"packet": {**PACKET, "field": "ip.length"}}, {"packets": [ECHO, TUNNELLED]}, "104"),
        (
            "number",
            {"packet": {**PACKET, "field": "ip.length", "which": "first"}},
            {"packets": [ECHO, TUNNELLED]},
            "84",
        ),
        ("node", {"packet": {**PACKET, "field": "ip.destination"}}, {"packets": [TUNNELLED]}, "fa-hotspot"),
        ("address", {"packet": {**PACKET, "field": "inner.source"}}, {"packets": [TUNNELLED]}, "192.0.2.10"),
        ("number", {"packet": {**PACKET, "field": "mip.lifetime"}}, {"packets": [REQUEST]}, "600"),
        ("word", {"packet": {**PACKET, "field": "mip.flags"}}, {"packets": [REQUEST]}, "DT"),
        ("node", {"packet": {**PACKET, "field": "mip.care-of"}}, {"packets": [REQUEST]}, "mn"),
        ("number", {"count": PACKET}, {"packets": [ECHO, ECHO]}, "2"),
        ("number", {"count": PACKET}, {}, "0"),
        (
            "number",
            {"event": {"node": "mn", "name": "settled", "field": "timeline.data"}},
            {"events": [("settled", {"timeline": {"data": 9}}), ("settled", {"timeline": {"data": 31.5}})]},
            "31.5",
        ),
        (
            "network",
            {"state": {"node": "ha", "service": "home-agent", "field": "bindings.0.care_of"}},
            {"state": {"bindings": [{"care_of": "198.51.100.140"}]}},
            "airport",
        ),
        (
            "network",
            {"output": {"node": "mn", "command": "route", "match": r"dev (\w+)"}},
            {"output": "default via 1.2.3.4\ndev hotel x"},
            "hotel",
        ),
        ("node", {"value": "ha"}, {}, "ha"),
    ],
)
def test_the_right_answer_comes_from_the_lab(
    kind: str, source: dict[str, Any], played: dict[str, Any], right: str
) -> None:
    assert right_answer(bench(**played), answer(kind, source), ("x",)) == right


@pytest.mark.parametrize(
    ("kind", "source", "played", "why"),
    [
        ("number", {"packet": {**PACKET, "field": "ip.ttl"}}, {}, "no packet at ha/internet matches 'ip'"),
        ("number", {"packet": {**PACKET, "field": "mip.code"}}, {"packets": [ECHO]}, "has no mip.code"),
        ("number", {"packet": {**PACKET, "field": "inner.protocol"}}, {"packets": [ECHO]}, "has no inner"),
        (
            "number",
            {"event": {"node": "mn", "name": "settled", "field": "ms"}},
            {},
            "mn has reported no settled since this task began",
        ),
        (
            "number",
            {"event": {"node": "mn", "name": "settled", "field": "timeline.data"}},
            {"events": [("settled", {"timeline": {"data": None}})]},
            "has no timeline.data now",
        ),
        (
            "address",
            {"state": {"node": "ha", "service": "home-agent", "field": "bindings.0.care_of"}},
            {"state": {"bindings": []}},
            "the state of home-agent has no bindings.0.care_of now",
        ),
        ("word", {"output": {"node": "mn", "command": "x", "match": "y"}}, {"output": "z"}, "prints nothing"),
        ("number", {"output": {"node": "mn", "command": "x"}}, {"output": "z"}, "gives no number"),
    ],
)
def test_what_the_lab_cannot_say_now(
    kind: str, source: dict[str, Any], played: dict[str, Any], why: str
) -> None:
    with pytest.raises(StepError, match=why):
        right_answer(bench(**played), answer(kind, source), ("x",))


@pytest.mark.parametrize(
    ("given", "right", "tolerance", "held"),
    [
        ("104", "104", 0, True),
        ("104.0 ms", "104", 0, True),
        ("104ms", "104", 0, True),
        ("105", "104", 0, False),
        ("119", "100", "20%", True),
        ("121", "100", "20%", False),
        ("-3", "2", 5, True),
        ("-4", "2", 5, False),
        ("104 s", "104", 0, False),
        ("about 104", "104", 0, False),
    ],
)
def test_numbers(given: str, right: str, tolerance: float | str, held: bool) -> None:
    asked = answer("number", {"value": 1}, unit="ms", tolerance=tolerance)
    assert is_right(given, right, asked, PLAIN) is held


@pytest.mark.parametrize(
    ("kind", "given", "right", "held"),
    [
        ("node", "FA-hotspot", "fa-hotspot", True),
        ("node", "203.0.113.10", "fa-hotspot", True),
        ("node", "mn@hotel", "mn", True),
        ("node", "198.51.100.70", "mn", True),
        ("node", "ha", "fa-hotspot", False),
        ("network", "198.51.100.0/26", "hotspot", True),
        ("network", "hotel", "hotspot", False),
        ("address", "203.0.113.10", "203.0.113.10", True),
        ("address", "203.0.113.10/32", "203.0.113.10", True),
        ("address", "203.0.113.1", "203.0.113.10", False),
        ("word", "Nobody", "nobody", True),
        ("word", "0x8F3191f5", "8f3191f5", True),
        ("word", "0x8db903f7", "8f3191f5", False),
    ],
)
def test_names(kind: str, given: str, right: str, held: bool) -> None:
    assert is_right(given, right, answer(kind, {"value": right}), PLAIN) is held


@pytest.mark.parametrize(
    ("kind", "given", "why"),
    [
        ("number", "fast", "fast is not a number in ms"),
        ("node", "gw", "gw is no node of this lab; the nodes are "),
        ("network", "moon", "moon is no network of this lab"),
        ("address", "ha", "ha is not an IPv4 address"),
        ("word", "d", "d is none of a, b, c"),
    ],
)
def test_an_answer_of_another_kind(kind: str, given: str, why: str) -> None:
    more = {"number": {"unit": "ms"}, "word": {"choices": ["a", "b", "c"]}}.get(kind, {})
    problem = in_kind(given, answer(kind, {"value": "a"}, **more), PLAIN)
    assert problem is not None and problem.startswith(why)
