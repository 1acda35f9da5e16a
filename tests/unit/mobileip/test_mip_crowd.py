"""Many mobile nodes in one process: each registers, moves and answers pings by itself."""

from __future__ import annotations

import json
import os
import re
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from random import Random

import pytest
from mip_world import association, clock, home_agent_config, sent
from scapy.layers.inet import ICMP, IP
from scapy.packet import Raw

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile.crowd import Crowd
from testbed.mobileip.io import bulk_toml, home_agent_toml
from testbed.mobileip.io.bulk import answer
from testbed.mobileip.io.bulk_moves import Moves, part_of
from testbed.mobileip.io.errors import ConfigError
from testbed.mobileip.io.journal import Journal

A = IPv4Address
FILE = """\
count = 50
home-address = "10.64.0.10"
home-prefix = "10.64.0.0/16"
home-agent = "10.98.0.1"
[security]
spi = 256
key = "000102030405060708090a0b0c0d0e0f"
[[network]]
name = "hotel"
care-of = "100.64.0.0/24"
router = "198.51.100.65"
[[network]]
name = "airport"
care-of = "100.64.1.0/24"
router = "198.51.100.129"
"""
AGENT = A("10.98.0.1")
FIRST = A("10.64.0.10")


class World:
    """A crowd and its home agent on a perfect network."""

    def __init__(self, tmp_path: Path, text: str = FILE) -> None:
        (file := tmp_path / "bulk.toml").write_text(text)
        settings = bulk_toml.read(file)
        networks = {each.name: each.care_of for each in settings.networks}
        self.crowd = Crowd(settings.configs(), networks, clock, Random(1))
        nodes = tuple(association(FIRST + number) for number in range(settings.count))
        prefix = IPv4Network("10.64.0.0/16")
        fixed = {"home_interface": None, "advertising": None, "bindings": len(nodes)}
        config = home_agent_config(address=AGENT, home_prefix=prefix, mobile_nodes=nodes, **fixed)
        self.agent = HomeAgent(config, clock, Random(2))
        self.now = 0.0

    def run(self, until: float) -> None:
        while True:
            for effect in self.crowd.effects():
                self.agent.receive(effect.datagram, self.now)
            for datagram in sent(self.agent.effects()):
                self.crowd.receive(datagram, self.now)
            due = self.crowd.deadline()
            if due is None or due > until:
                self.now = until
                return
            self.now = due
            self.crowd.tick(due)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_all_register_within_the_time_and_each_has_a_state_of_its_own(world):
    move = world.crowd.move(range(50), "hotel", 10.0, 0.0)
    world.run(5.0)
    assert 25 <= world.crowd.registered() <= 26
    assert len(move.waiting) == 50 - world.crowd.registered()
    world.run(10.0)
    assert not move.waiting
    assert (move.requests, move.replies) == (50, 50)
    assert world.crowd.registered() == world.crowd.registered("hotel") == 50
    assert len(world.agent.state(world.now)["bindings"]) == 50
    picture = world.crowd.member(FIRST + 7).node.state(world.now)
    assert (picture["state"], picture["care_of"]) == ("registered", "100.64.0.8")
    state = world.crowd.state()
    assert state["networks"]["hotel"] == {"attached": 50, "registered": 50}
    assert state["counters"]["requests-sent"] == 50 == state["events"]["registered"]


def test_the_agent_lists_some_counts_all_and_shows_each(world, monkeypatch):
    monkeypatch.setattr("testbed.mobileip.core.home_agent.LISTED", 20)
    world.crowd.move(range(50), "hotel", 0.0, 0.0)
    world.run(1.0)
    state = world.agent.state(1.0)
    assert (state["mobile_nodes"], len(state["bindings"])) == (50, 20)
    assert world.agent.picture(FIRST + 49, 1.0)["care_of_addresses"] == ["100.64.0.50"]
    stranger = world.agent.picture(FIRST + 50, 1.0)
    assert (stranger["care_of_addresses"], stranger["lifetime_left"]) == ([], None)


def test_some_move_and_the_others_stay(world):
    world.crowd.move(range(50), "hotel", 0.0, 0.0)
    world.run(1.0)
    move = world.crowd.move(range(10, 20), "airport", 0.0, world.now)
    world.run(2.0)
    assert (move.requests, move.replies, move.waiting) == (10, 10, set())
    assert (world.crowd.registered("hotel"), world.crowd.registered("airport")) == (40, 10)
    (binding,) = [
        each for each in world.agent.state(2.0)["bindings"] if each["home_address"] == str(FIRST + 10)
    ]
    assert binding["care_of_addresses"] == ["100.64.1.11"]


def test_late_nodes_attach_later_and_do_not_ask_again_first(world, monkeypatch):
    """Where the process gets no processor for seconds, replies that have come meanwhile are read first."""
    monkeypatch.setattr("testbed.mobileip.core.mobile.crowd.AT_ONCE", 10)
    world.crowd.move(range(50), "hotel", 0.0, 0.0)
    late = 5.0
    for _ in range(5):
        world.crowd.tick(late)
        asked = world.crowd.effects()
        assert len(asked) == 10
        for effect in asked:
            world.agent.receive(effect.datagram, late)
        late += 5.0
        for datagram in sent(world.agent.effects()):
            world.crowd.receive(datagram, late)
    assert world.crowd.registered() == 50
    assert world.crowd.state()["counters"]["requests-timed-out"] == 0


def test_all_are_renewed_and_none_expires(world):
    world.crowd.move(range(50), "hotel", 1.0, 0.0)
    world.run(3000.0)
    assert world.crowd.registered() == 50
    assert not world.crowd.state()["counters"]["registrations-expired"]


def test_what_is_for_nobody_is_counted(world):
    for payload in (b"", b"\x03\0\0\0", b"\x03" + bytes(30), b"\x01" + bytes(30)):
        world.crowd.receive(Datagram(payload, AGENT, 434, A("100.64.0.1"), 434), 0.0)
    assert world.crowd.events["discarded"] == 4


def test_a_later_move_takes_nodes_from_those_before(world):
    """Half of the nodes have left when all are sent elsewhere: nobody waits for the others any more."""
    first = world.crowd.move(range(50), "hotel", 10.0, 0.0)
    world.run(4.9)
    second = world.crowd.move(range(50), "airport", 0.0, world.now)
    assert not first.waiting and (first.requests, first.arrived, first.diverted) == (25, 25, 25)
    world.run(5.0)
    assert not second.waiting and (second.requests, second.replies) == (50, 50)
    assert world.crowd.registered("airport") == 50


def test_a_move_waits_for_the_reply_also_where_nodes_are_registered_already(world):
    world.crowd.move(range(50), "hotel", 0.0, 0.0)
    world.run(1.0)
    again = world.crowd.move(range(50), "hotel", 0.0, world.now)
    world.crowd.tick(world.now)
    assert world.crowd.registered("hotel") == 50 == len(again.waiting)
    world.run(2.0)
    assert not again.waiting and again.replies == 50


def test_requests_are_about_all_nodes_or_a_part(world):
    some = [str(FIRST + 10), str(FIRST + 19)]
    assert part_of(world.crowd, {}) == range(50)
    assert part_of(world.crowd, {"share": 0.1}) == range(5)
    assert part_of(world.crowd, {"share": 0.001}) == range(1)
    assert part_of(world.crowd, {"homes": some}) == range(10, 20)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"share": 0}, "'share' must be a number above 0, 1 at most, got 0"),
        ({"share": 1.5}, "'share' must be a number above 0, 1 at most, got 1.5"),
        ({"share": "all"}, "'share' must be a number"),
        ({"share": 1, "homes": []}, "'homes' or 'share', not both"),
        ({"homes": "10.64.0.10"}, "'homes' must be the first and the last home address"),
        ({"homes": [17, 18]}, "expected an IPv4 address, got 17"),
        ({"homes": ["10.64.0.10", "10.64.0.600"]}, "not permitted in '10.64.0.600'"),
        (
            {"homes": ["10.64.0.10", "10.64.0.60"]},
            "no mobile node has the home address 10.64.0.60; they have 10.64.0.10 to 10.64.0.59",
        ),
        ({"homes": ["10.64.0.11", "10.64.0.10"]}, "the home address 10.64.0.11 comes after 10.64.0.10"),
    ],
)
def test_a_part_that_there_is_not_is_refused(world, request_, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        part_of(world.crowd, request_)


def test_an_unknown_network_is_refused(world):
    with pytest.raises(ValueError, match="unknown network 'hotels'; expected one of hotel, airport"):
        world.crowd.move(range(50), "hotels", 0.0, 0.0)


def tunnelled(home=FIRST, source=str(AGENT), care_of="100.64.0.1", kind=8):
    inner = IP(src="203.0.113.9", dst=str(home), tos=8) / ICMP(type=kind, id=7, seq=3) / Raw(b"odd data!")
    return bytes(IP(src=source, dst=care_of, proto=4) / inner)


def test_an_echo_request_out_of_the_tunnel_is_answered_into_it(world):
    world.crowd.move(range(50), "hotel", 0.0, 0.0)
    world.run(1.0)
    outer = IP(answer(tunnelled(), world.crowd))
    assert (outer.src, outer.dst, outer.proto) == ("100.64.0.1", str(AGENT), 4)
    inner = outer[IP].payload
    assert (inner.src, inner.dst, inner.tos) == (str(FIRST), "203.0.113.9", 8)
    assert (inner[ICMP].type, inner[ICMP].id, inner[ICMP].seq, bytes(inner[Raw])) == (0, 7, 3, b"odd data!")
    for layer in (outer, inner, inner[ICMP]):  # scapy computes what is deleted anew
        before = layer.chksum
        copy = layer.copy()
        del copy.chksum
        assert type(layer)(bytes(copy)).chksum == before


@pytest.mark.parametrize(
    "packet",
    [
        tunnelled(home=FIRST + 1),  # at another node's care-of address
        tunnelled(home=A("10.64.9.9")),
        tunnelled(source="203.0.113.66"),  # not from the home agent (RFC 5944 §4.2.2)
        tunnelled(kind=0),
        tunnelled()[:30],
        b"",
    ],
)
def test_nothing_else_is_answered(world, packet):
    world.crowd.move(range(50), "hotel", 0.0, 0.0)
    world.run(1.0)
    assert answer(packet, world.crowd) is None


def test_nobody_answers_who_is_not_registered(world):
    assert answer(tunnelled(), world.crowd) is None


def test_without_a_reverse_tunnel_the_answer_goes_as_it_is(tmp_path):
    world = World(tmp_path, "reverse-tunnel = false\n" + FILE)
    world.crowd.move(range(50), "hotel", 0.0, 0.0)
    world.run(1.0)
    assert IP(answer(tunnelled(), world.crowd)).src == str(FIRST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("count = 50", "count = 0"), ":1: count: expected 1 to 1000000, got 0"),
        (("count = 50", 'attach = "inn"\ncount = 50'), ":1: attach: there is no network 'inn'"),
        (("10.64.0.10", "10.99.0.10"), "is not in the home prefix"),
    ],
)
def test_errors_of_the_file_name_the_line(tmp_path, change, message):
    (file := tmp_path / "bulk.toml").write_text(FILE.replace(*change))
    with pytest.raises(ConfigError, match=message):
        bulk_toml.read(file)


def test_a_prefix_too_small_for_the_crowd_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"airport: .* has no care-of addresses for 50 nodes"):
        World(tmp_path, FILE.replace("100.64.1.0/24", "100.64.1.0/27"))


def test_the_documented_file_can_be_read(tmp_path):
    text = bulk_toml.__doc__.partition("```toml")[2].partition("```")[0]
    (file := tmp_path / "bulk.toml").write_text(text)
    assert bulk_toml.read(file).count == 5000


def test_a_home_agent_has_one_association_for_many(tmp_path):
    text = (
        'address = "10.98.0.1"\n[home]\nprefix = "10.64.0.0/16"\n[[security]]\nmobile-node = "10.64.0.10"\n'
    )
    key = 'spi = 256\nkey = "000102030405060708090a0b0c0d0e0f"\n'
    (file := tmp_path / "ha.toml").write_text(f"{text}count = 300\n{key}")
    nodes = home_agent_toml.read(file).core.mobile_nodes
    assert [each.peer for each in nodes] == [FIRST + number for number in range(300)]
    for wrong in ('count = 0\nmobile-node = "10.64.0.10"', 'count = 2\nmobile-node = "mn@example.net"'):
        file.write_text(text.replace('mobile-node = "10.64.0.10"', wrong) + key)
        with pytest.raises(ConfigError, match="count: expected 1 or more"):
            home_agent_toml.read(file)


class Client:
    """A connection to the control socket."""

    def __init__(self):
        self.open, self.holds, self.events = True, 0, []

    def hold(self):
        self.holds += 1

    def release(self):
        self.holds -= 1

    def send(self, line):
        self.events.append(json.loads(line))


@pytest.fixture
def moves(world):
    """The moves of the crowd, which are asked for at its control socket."""
    with Path(os.devnull).open("wb") as nowhere:
        yield Moves(world.crowd, Journal("bulk-nodes", nowhere.fileno()))


def carry_out(world, moves, until):
    while (due := moves.deadline()) is not None and min(due, world.crowd.deadline() or due) <= until:
        world.run(max(world.now, min(due, world.crowd.deadline() or due)))
        moves.turn(world.now)


def test_moves_begin_in_the_order_of_their_times_and_may_overlap(world, moves):
    client = Client()
    late = {"network": "airport", "share": 0.2, "at": 5.0, "id": 1}
    assert moves.request(late, client, 0.0) == {"nodes": 10}
    early = {"network": "hotel", "homes": [str(FIRST), str(FIRST + 19)], "within": 10.0, "id": 2}
    assert moves.request(early, client, 0.0) == {"nodes": 20}
    carry_out(world, moves, 20.0)
    assert [(each["event"], each["id"], each["network"]) for each in client.events] == [
        ("move-started", 2, "hotel"), ("move-started", 1, "airport"),
        ("settled", 1, "airport"), ("settled", 2, "hotel"),
    ]  # fmt: skip
    began, _, first, _ = client.events
    assert (began["nodes"], began["homes"]) == (20, [str(FIRST), str(FIRST + 19)])
    assert (first["state"], first["detail"]) == ("registered", "10 of 10 nodes registered")
    assert [first[each] for each in ("nodes", "registered", "requests", "replies")] == [10] * 4
    assert client.holds == 0
    assert (world.crowd.registered("airport"), world.crowd.registered("hotel")) == (10, 10)


def test_a_move_says_how_many_were_sent_elsewhere_before(world, moves):
    client = Client()
    moves.request({"network": "hotel", "within": 10.0}, client, 0.0)
    moves.request({"network": "airport", "at": 4.9}, client, 0.0)
    carry_out(world, moves, 20.0)
    details = [each["detail"] for each in client.events if each["event"] == "settled"]
    assert details == [
        "25 of 50 nodes registered, 25 were sent elsewhere before", "50 of 50 nodes registered",
    ]  # fmt: skip


def test_nodes_that_nobody_answers_end_a_move_after_a_minute(world, moves):
    client = Client()
    world.agent.receive = lambda datagram, now: None
    moves.request({"network": "hotel", "within": 1.0}, client, 0.0)
    carry_out(world, moves, 100.0)
    settled = client.events[-1]
    assert (settled["state"], settled["detail"]) == ("unregistered", "0 of 50 nodes registered")
    assert settled["timeline"] == {"registration": None} and 61 <= settled["ms"] / 1000 < 70


def test_what_is_planned_ends_with_the_connection(world, moves):
    client = Client()
    moves.request({"network": "hotel", "at": 5.0}, client, 0.0)
    client.open = False
    carry_out(world, moves, 20.0)
    assert not client.events and not world.crowd.registered()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"network": "inn"}, "unknown network 'inn'; expected one of hotel, airport"),
        ({"network": "hotel", "within": -1}, "'within' must be a number of seconds, 0 or more, got -1"),
        ({"network": "hotel", "at": "now"}, "'at' must be a number of seconds, 0 or more, got 'now'"),
        ({"network": "hotel", "within": True}, "'within' must be a number of seconds, 0 or more, got True"),
    ],
)
def test_a_wrong_request_is_refused_and_nothing_is_planned(moves, request_, message):
    client = Client()
    with pytest.raises(ValueError, match=re.escape(message)):
        moves.request(request_, client, 0.0)
    assert moves.deadline() is None and not client.holds
