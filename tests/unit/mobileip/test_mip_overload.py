"""A home agent with more requests than it can answer, and the nodes that ask it (RFC 5944 §3.6.3, §5.7.1)."""

from __future__ import annotations

import heapq
from collections import Counter
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mip_world import HOME_ADDRESS, association, clock, events, home_agent_config, mobile_node_config, sent

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.association import sign
from testbed.mobileip.core.home.queue import LATE, SHORT, RequestQueue
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.core.security import ReplayProtection
from testbed.mobileip.wire.authentication import MOBILE_HOME
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.identification import from_unix
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest

A = IPv4Address
AGENT = A("10.98.0.1")
PREFIX = IPv4Network("10.64.0.0/16")
TOLERANCE = 7.0


def request(stamped: float, home_address=HOME_ADDRESS, replay=ReplayProtection.TIMESTAMPS) -> Datagram:
    """A request whose mobile node's clock was at `stamped`."""
    identification = from_unix(clock(stamped)) % 2**64
    message = RegistrationRequest(0, 300, home_address, A("10.0.1.2"), A("198.51.100.7"), identification)
    payload = sign(message.encode(), MOBILE_HOME, association(home_address, replay=replay))
    return Datagram(payload, A("198.51.100.7"), 434, A("10.0.1.2"), 434)


def queue(*arrivals: float) -> tuple[RequestQueue, Counter[str]]:
    counters: Counter[str] = Counter()
    made = RequestQueue(TOLERANCE, clock, counters)
    for arrived in arrivals:
        made.put(request(arrived), arrived)
    return made, counters


def taken(made: RequestQueue, now: float) -> list[bool]:
    """Take all that is there at `now`; whether each is to be denied."""
    found = []
    while (each := made.take(now)) is not None:
        found.append(each[1])
    return found


def test_requests_are_answered_in_the_order_they_came():
    made, counters = queue()
    asked = [request(at / 1000) for at in range(200)]
    for at, each in enumerate(asked):
        made.put(each, at / 1000)
    assert [made.take(0.3)[0] for _ in asked] == asked and made.take(0.3) is None
    assert not counters["requests-shed"]


def test_a_short_queue_is_answered_however_late():
    made, counters = queue(*[0.0] * SHORT)
    assert taken(made, 6.9) == [False] * SHORT and not counters["requests-shed"]


def test_what_waiting_alone_would_have_answered_by_133_is_dropped_unprocessed():
    made, counters = queue(0.0)
    assert taken(made, TOLERANCE + 0.1) == []
    assert counters == {"requests-received": 1, "requests-shed": 1}


@pytest.mark.parametrize(
    ("ahead", "waited", "shed"),
    [(-5.0, 1.9, False), (-5.0, 2.1, True), (5.0, 11.9, False), (5.0, 12.1, True), (-60.0, 2.1, False)],
)
def test_the_mobile_nodes_clock_counts_and_not_ours_alone(ahead, waited, shed):
    """One whose clock is wrong by a minute is to learn that by code 133 all the same."""
    made, counters = queue()
    made.put(request(ahead), 0.0)
    assert taken(made, waited) == ([] if shed else [False])
    assert counters["requests-shed"] == shed


def test_with_hardly_any_tolerance_requests_are_still_answered():
    """None is fresh when it comes, so that waiting makes none too old: code 133 is the answer."""
    made = RequestQueue(1e-6, clock, Counter())
    made.put(request(0.0), 0.001)
    assert taken(made, 0.002) == [False]


def test_the_old_end_of_a_long_queue_is_denied_while_that_is_in_time_and_the_rest_is_dropped():
    made, counters = queue(*[0.0] * 500, *[LATE] * SHORT)
    found = taken(made, LATE + 0.01)
    assert found[:64] == [True] * 64 and found[64:] == [False] * SHORT
    assert counters["requests-shed"] == 500 - 64


def test_too_late_for_a_denial_is_too_late():
    made, counters = queue(*[0.0] * 500)
    assert taken(made, 2 * LATE) == [False] * SHORT and counters["requests-shed"] == 500 - SHORT


@given(st.lists(st.tuples(st.floats(0, 0.01), st.floats(0, 0.05), st.integers(0, 3)), max_size=400))
def test_every_request_is_taken_or_counted_as_shed(steps):
    """Whatever comes and goes, none is answered late, out of order or twice."""
    made, counters = queue()
    now, put, numbers = 0.0, 0, {}
    found = []
    for pause, more, some in steps:
        for _ in range(some * 40):
            now += pause / 40
            each = request(now)
            numbers[id(each)] = each, put, now
            made.put(each, now)
            put += 1
        now += more
        crowded = len(made) > SHORT
        if (got := made.take(now)) is not None:
            _, number, arrived = numbers[id(got[0])]
            found.append(number)
            assert not (crowded and now - arrived >= 2 * LATE) or put - number <= SHORT
            assert not got[1] or LATE <= now - arrived < 2 * LATE
    assert found == sorted(set(found))
    assert len(found) + counters["requests-shed"] + len(made) == put


def test_an_overload_is_answered_by_130_and_what_is_denied_is_no_good_again():
    agent = HomeAgent(home_agent_config(), clock, Random(1))
    asked = request(0.0)
    for _ in range(SHORT + 1):
        agent.enqueue(asked, 0.0)
    assert agent.waiting == SHORT + 1
    agent.serve(LATE)
    (reply,) = sent(agent.effects())
    assert RegistrationReply.decode(reply.payload).code == Code.HA_INSUFFICIENT_RESOURCES
    assert agent.counters["denied-130"] == 1 and not agent.state(LATE)["bindings"]
    agent.serve(LATE)  # the same request again, as if replayed
    (reply,) = sent(agent.effects())
    assert RegistrationReply.decode(reply.payload).code == Code.HA_IDENTIFICATION_MISMATCH


def test_only_requests_wait():
    agent = HomeAgent(home_agent_config(), clock, Random(1))
    agent.enqueue(Datagram(b"\x07 a revocation", A("198.51.100.7"), 434, A("10.0.1.2"), 434), 0.0)
    assert not agent.waiting and agent.effects()


# Many nodes and one agent that takes its time, in virtual time.


class Crowd:
    """`nodes` mobile nodes and a home agent that answers `rate` requests a second."""

    def __init__(self, nodes: int, rate: float, trip: float = 0.02) -> None:
        addresses = [PREFIX[10 + number] for number in range(nodes)]
        self.agent = HomeAgent(
            home_agent_config(
                address=AGENT,
                home_prefix=PREFIX,
                home_interface=None,
                advertising=None,
                mobile_nodes=tuple(map(association, addresses)),
                bindings=nodes,
            ),
            clock,
            Random(1),
        )
        rng = Random(2)
        self.nodes = {
            A(int(A("10.128.0.0")) + number): MobileNode(
                mobile_node_config(
                    home_address=address, home_prefix=PREFIX, home_agent=AGENT, security=association(AGENT)
                ),
                clock,
                rng,
            )
            for number, address in enumerate(addresses)
        }
        self.registered: dict[IPv4Address, float] = {}
        self.requests = 0
        self.now = 0.0
        self._cost, self._trip = 1 / rate, trip
        self._busy = False
        self._wakes: dict[IPv4Address, float] = {}
        self._queue: list[tuple] = []
        self._order = count()

    def attach(self, within: float) -> None:
        """Attach every node at some time `within` so many seconds."""
        rng = Random(3)
        for care_of, node in self.nodes.items():
            self._at(rng.uniform(0, within), partial(self._attach, care_of, node))

    def run(self, until: float) -> None:
        """Until `until`, or all are registered."""
        while self._queue and self._queue[0][0] <= until and len(self.registered) < len(self.nodes):
            self.now, _, do = heapq.heappop(self._queue)
            do()

    def _at(self, when: float, do) -> None:
        heapq.heappush(self._queue, (when, next(self._order), do))

    def _attach(self, care_of, node) -> None:
        node.attach("wan", care_of, self.now)
        self._after(care_of, node)

    def _after(self, care_of, node) -> None:
        effects = node.effects()
        for datagram in sent(effects):
            self.requests += 1
            node.departed(self.now)
            self._at(self.now + self._trip, partial(self._arrive, datagram))
        if events(effects, "registered"):
            self.registered.setdefault(care_of, self.now)
        elif (due := node.deadline()) is not None and self._wakes.get(care_of) != due:
            self._wakes[care_of] = due
            self._at(due, partial(self._wake, care_of, node, due))

    def _wake(self, care_of, node, due) -> None:
        if self._wakes.get(care_of) == due and node.deadline() is not None and node.deadline() <= self.now:
            node.tick(self.now)
            self._after(care_of, node)

    def _arrive(self, datagram) -> None:
        self.agent.enqueue(datagram, self.now)
        if not self._busy:
            self._serve()

    def _serve(self) -> None:
        self._busy = bool(self.agent.waiting)
        if self._busy:
            self.agent.serve(self.now)
            for datagram in sent(self.agent.effects()):
                self._at(self.now + self._cost + self._trip, partial(self._reply, datagram))
            self._at(self.now + self._cost, self._serve)

    def _reply(self, datagram) -> None:
        node = self.nodes[datagram.destination]
        node.receive(datagram, self.now)
        self._after(datagram.destination, node)


def test_ten_thousand_nodes_that_attach_in_ten_seconds_are_registered_soon_after():
    crowd = Crowd(10_000, rate=1_050)
    crowd.attach(within=10.0)
    crowd.run(60.0)
    assert len(crowd.registered) == 10_000
    assert max(crowd.registered.values()) < 10.5
    assert not crowd.agent.counters["requests-shed"] and crowd.requests < 10_100


@pytest.mark.parametrize(("rate", "within"), [(1_000, 0.1), (400, 2.0)])
def test_an_agent_that_is_too_slow_for_a_crowd_loses_little_time_by_it(rate, within):
    """Many times as many as it can answer at once."""
    crowd = Crowd(2_000, rate)
    crowd.attach(within)
    crowd.run(60.0)
    assert len(crowd.registered) == 2_000
    assert crowd.agent.counters["requests-shed"] and crowd.agent.counters["denied-130"]
    assert max(crowd.registered.values()) < 2.5 * 2_000 / rate


def test_without_shedding_the_same_crowd_would_be_answered_too_late(monkeypatch):
    monkeypatch.setattr("testbed.mobileip.core.home.queue.LATE", 1e9)
    crowd = Crowd(2_000, rate=400)
    crowd.attach(within=2.0)
    crowd.run(8.0)
    assert len(crowd.registered) < 1_000 < 3_000 < crowd.agent.counters["requests-accepted"]
