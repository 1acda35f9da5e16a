"""How messages grow with mobile nodes: in what time all that are away move, and the exponent."""

from itertools import chain
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.claim.clocks import by_time_of_day
from testbed.claim.expect import growth
from testbed.claim.expect.growth import (
    LATER,
    Growth,
    associations,
    bindings,
    crowd_phases,
    exponent,
    phases,
)
from testbed.claim.sight import Sight
from testbed.packet.pcap import RAW_IP, Frame
from testbed.packet.taps import Matched


def event(time, node, name, state="registered", late=0.25, booted=1000):
    return SimpleNamespace(
        node=node,
        name=name,
        source="roam",
        monotonic=time + 1000 - booted,
        wall=1000 + time + late,
        fields={"state": state},
    )


def move(begin, node, state="registered", lasts=1.0, late=0.25):
    return [
        event(begin, node, "move-started", late=late),
        event(begin + lasts, node, "settled", state, late=late),
    ]


def of(*moves, rounds=False):
    return [(sorted(one.nodes), one.began, one.ended) for one in phases(chain(*moves), rounds=rounds)]


def test_packets_count_from_when_a_node_is_away_until_the_next_leaves_home() -> None:
    join, alone, other, both = move(1, "a"), move(3, "a"), move(4.2, "b"), move(8, "a") + move(8.1, "b")
    # Clocks: the event that arrived soonest, 0.25 s after it happened, gives the time of day.
    assert of(join, alone, other, both) == [
        (["a"], 1002.25, 1004.45),
        (["a", "b"], pytest.approx(1005.45), pytest.approx(1009.35 + LATER)),
    ]


def test_the_event_that_arrived_soonest_gives_the_time_of_day() -> None:
    assert of(move(1, "a", late=9.0), move(3, "a", late=0.5), move(5, "a", late=2.0))[0][1] == 1002.5


def test_nodes_of_hosts_that_started_at_different_times() -> None:
    def moved(begin, node, booted):
        steps = ((0, "move-started"), (1, "settled"))
        return [event(begin + at, node, name, booted=booted) for at, name in steps]

    def moves(other):
        return [moved(1, "a", 1000), moved(3, "b", other), moved(8, "a", 1000), moved(8.1, "b", other)]

    assert of(*moves(400)) == of(*moves(1000)) and of(*moves(400))[-1][0] == ["a", "b"]


@pytest.mark.parametrize(
    "moves",
    [
        [],
        [move(1, "a")],  # joined, and never moved
        [move(1, "a", "at-home"), move(3, "a", "at-home")],
        [move(1, "a"), move(2, "b"), move(4, "a")],  # b stays where it is
        [move(1, "a"), move(3, "a"), move(5, "a", "at-home")][2:],
    ],
)
def test_what_is_no_move_of_all_that_are_away(moves) -> None:
    assert of(*moves) == []


def test_each_round_in_which_all_move_counts_by_itself_where_rounds_are_asked_for() -> None:
    moves = [move(1, "a", late=0), move(2, "b", late=0)]
    moves += [move(time, node, late=0) for time in (5, 10) for node in "ab"]
    assert of(*moves) == [(["a", "b"], 1003, 1011 + LATER)]
    assert of(*moves, rounds=True) == [(["a", "b"], 1003, 1006 + LATER), (["a", "b"], 1010, 1011 + LATER)]
    # One that moves alone in between moves in the same round as the rest.
    moves = [*moves[:2], move(5, "a", late=0), move(7, "a", late=0), move(9, "b", late=0)]
    assert of(*moves, rounds=True) == [(["a", "b"], 1003, 1010 + LATER)]


def test_a_node_that_returns_home_counts_no_more() -> None:
    gone = [move(1, "a"), move(1, "b"), move(4, "b", "at-home"), move(6, "a")]
    assert [nodes for nodes, _, _ in of(*gone)] == [["a"]]


@given(st.floats(0, 4), st.lists(st.integers(1, 64), min_size=2, max_size=6, unique=True), st.floats(1, 1e6))
def test_the_exponent_of_a_power(power, sizes, factor) -> None:
    assert exponent([(size, factor * size**power) for size in sizes]) == pytest.approx(power, abs=1e-6)


def judged(counts, alive=True, again=None, size=lambda time: 60, **wanted):
    """So many packets while 1, 2, 4 … nodes move, and so many when they do again."""
    events, times, clock, names = [], [], 0.0, []
    for number, count in enumerate(counts):
        joining = [f"n{one}" for one in range(len(names), 2**number)]
        names += joining
        for node in joining:
            events += move(clock, node, late=0.0)
        clock += 5
        for node in names:
            events += move(clock, node, late=0.0)
        times += [1000 + clock + 0.5] * count
        clock += 10
        for node in names if again else ():
            events += move(clock, node, late=0.0)
        times += [1000 + clock + 0.5] * (again[number] if again else 0)
        clock += 10
    frames = tuple(Frame(int(time * 1e9), RAW_IP, b"E" * size(time), size(time)) for time in times)
    wires = SimpleNamespace(match_all=lambda taps, _: [Matched(taps[0], frames, 99, alive, 0)])
    sight = Sight(facts=SimpleNamespace(), wires=wires, events=events)
    return Growth.model_validate({"at": "gw/internet", "filter": "udp", **wanted}).judge(sight)


@pytest.mark.parametrize(
    ("counts", "held", "observed"),
    [
        ((6, 12, 24, 48), True, "exponent 1.00"),
        ((6, 13, 27, 52), True, "exponent 1.04"),
        ((6, 24, 96), False, "exponent 2.00"),
        ((6, 6, 6), True, "exponent 0.00"),
        ((0, 0, 0), None, "without any no slope is known"),
        ((6, 0, 24), None, "without any no slope is known"),
        ((6, 12), None, "in numbers of 1, 2 only"),
        ((), None, "in numbers of no only"),
    ],
)
def test_what_grows_linearly_at_most(counts, held, observed) -> None:
    decision = judged(counts, **{"at-most": 1.1})
    assert decision.held is held and observed in decision.observed
    if held is not None:
        assert judged(counts, over=1.1).held is not held


def test_of_several_rounds_the_fewest_packets_count() -> None:
    wanted = {"rounds": True, "at-most": 1.1}
    late = judged((6, 12, 40), again=(6, 12, 24), **wanted)  # charon took some moves for two
    assert late.held is True and "1: 6, 2: 12, 4: 24" in late.observed
    assert judged((6, 12, 24), again=(6, 12, 40), **wanted).held is True
    assert judged((6, 24, 96), again=(6, 24, 96), **wanted).held is False  # what is so every time stays so
    assert judged((6, 12, 40), again=(6, 12, 40), **wanted).held is False


def test_octets_may_grow_where_packets_do_not() -> None:
    wanted = {"of": "octets", "at-most": 1.1}
    assert "1: 120, 2: 240, 4: 480: exponent 1.00" in judged((2, 4, 8), **wanted).observed
    larger = judged((2, 4, 8), size=lambda time: 20 + int(time - 1000), **wanted)  # later messages
    assert larger.held is False


def bound(time, home, care_of="c", name="binding", node="ha"):
    fields = {"home_address": home, "care_of": care_of}
    return SimpleNamespace(
        node=node, name=name, source="home-agent", monotonic=time, wall=1000 + time, fields=fields
    )


def test_a_home_address_is_bound_until_its_last_binding_ends() -> None:
    events = [bound(1, "a"), bound(2, "a"), bound(3, "b", node="x-ha"), bound(4, "a", "d")]

    def held(until, *more):
        return bindings(by_time_of_day([*events, *more]), 1000 + until)

    assert [held(time) for time in (0.5, 1, 2, 3, 9)] == [0, 1, 1, 2, 2]
    for name in ("binding-removed", "binding-expired", "binding-revoked"):
        assert held(9, bound(5, "a", "c", name)) == 2  # that was replaced
        assert held(9, bound(5, "a", "d", name)) == 1
    assert held(9, bound(5, "a", "a", "binding-removed")) == 1  # all of them (§3.8.3.1)
    assert held(4, bound(5, "a", "d", "binding-removed")) == 2


def have(time, number, node="gw"):
    """charon of a gateway has so many CHILD SAs, each of an IKE SA."""
    fields = {"ike": number, "child": number}
    return SimpleNamespace(
        node=node, name="associations", source="charon", monotonic=time, wall=1000 + time, fields=fields
    )


def test_associations_are_what_each_gateway_reported_last() -> None:
    events = [have(1, 1), have(2, 3), have(3, 1, "fa"), have(4, 0), bound(5, "a")]
    timed = by_time_of_day(events)
    assert [associations(timed, 1000 + time) for time in (0.5, 1, 2, 3, 9)] == [0, 2, 6, 8, 2]


def growing(of, keep, ended=()):
    """What comes of it where nodes keep something, `keep(number, time)`, while 1, 2 and 4 are away."""
    events, clock, away = [], 0.0, 0
    for joining in (1, 1, 2):
        for _ in range(joining):
            away += 1
            events += move(clock, f"n{away}", late=0.0)
            clock += 2
        events += keep(away, clock - 1.5)
        for one in range(1, away + 1):
            events += move(clock, f"n{one}", late=0.0)
        clock += 5
    sight = Sight(facts=SimpleNamespace(), wires=SimpleNamespace(), events=events, ended=ended)
    return Growth.model_validate({"of": of, "at-most": 1.1}).judge(sight)


@pytest.mark.parametrize(
    ("each", "held", "observed"),
    [
        (1, True, "1: 1, 2: 2, 4: 4: exponent 1.00"),
        (2, True, "1: 2, 2: 4, 4: 8: exponent 1.00"),  # two home agents
        (None, False, "1: 1, 2: 4, 4: 16: exponent 2.00"),  # each node is bound in the place of all
        (0, None, "without any no slope is known"),
    ],
)
def test_bindings_are_those_at_the_end_of_a_move(each, held, observed) -> None:
    def keep(away, time):
        return [bound(time, f"home-{one}") for one in range((away if each is None else each) * away)]

    decision = growing("bindings", keep)
    assert decision.held is held and observed in decision.observed


@pytest.mark.parametrize(
    ("power", "held", "observed"),
    [
        (1, True, "1: 2, 2: 4, 4: 8: exponent 1.00"),
        (0, True, "1: 2, 2: 2, 4: 2: exponent 0.00"),  # a tunnel between gateways, for all of them
        (2, False, "1: 2, 2: 8, 4: 32: exponent 2.00"),  # each node has an association with each other
    ],
)
def test_associations_are_those_at_the_end_of_a_move(power, held, observed) -> None:
    decision = growing("associations", lambda away, time: [have(time - 1, 9), have(time, away**power)])
    assert decision.held is held and observed in decision.observed


def test_events_are_put_in_order_once_whatever_the_number_of_phases(monkeypatch) -> None:
    ordered = []
    monkeypatch.setattr(
        growth,
        "by_time_of_day",
        lambda events: ordered.append(len(found := [*events])) or by_time_of_day(found),
    )
    growing("associations", lambda away, time: [have(time, away)])
    moves = 2 * (4 + 1 + 2 + 4)  # those that join, and three phases
    assert ordered == [moves, 0, moves + 3]  # of mobile nodes, of a crowd, and all


def test_associations_that_nobody_reports_decide_nothing() -> None:
    decision = growing("associations", lambda away, time: [])
    assert decision.held is None and "the run needs the step follow-sas" in decision.observed
    decision = growing("associations", lambda away, time: [have(time, away)], ended=["gw", "mn"])
    assert decision.held is None and decision.observed == "the log of gw had ended"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"of": "bindings", "at": "ha/home"}, "neither at nor filter"),
        ({"of": "associations", "filter": "udp"}, "neither at nor filter"),
        ({"of": "octets", "at": "ha/home"}, "at and filter"),
        ({"filter": "udp"}, "at and filter"),
    ],
)
def test_where_to_count_is_given_for_what_is_captured_alone(wanted, expected) -> None:
    with pytest.raises(ValueError, match=expected):
        Growth.model_validate({"at-most": 1.1, **wanted})


def test_a_capture_that_ended_decides_nothing() -> None:
    assert judged((6, 12, 24), alive=False, **{"at-most": 1.1}).held is None


@pytest.mark.parametrize("wanted", [{}, {"at-most": 1.1, "over": 1.0}])
def test_one_bound_is_given(wanted) -> None:
    with pytest.raises(ValueError, match="one of at-most and over"):
        Growth.model_validate({"at": "gw/internet", "filter": "udp", **wanted})


def of_crowd(begin, homes, nodes, lasts=1.0):
    fields = {"homes": homes, "nodes": nodes}
    return [
        SimpleNamespace(
            node="crowd", name=name, source="bulk-nodes", monotonic=time, wall=1000 + time, fields=fields
        )
        for time, name in ((begin, "move-started"), (begin + lasts, "settled"))
    ]


ONE, TEN, ALL = (
    (["10.0.0.1", "10.0.0.1"], 1),
    (["10.0.0.1", "10.0.0.10"], 10),
    (["10.0.0.1", "10.0.0.99"], 99),
)


def test_of_a_crowd_each_part_that_moves_counts() -> None:
    moves = of_crowd(1, *ONE) + of_crowd(3, *ONE) + of_crowd(4.2, *TEN) + of_crowd(9, *ALL)

    def found(rounds):
        return [(len(one.nodes), one.began, one.ended) for one in crowd_phases(moves, rounds=rounds)]

    assert found(False) == [(1, 1001, 1004.2), (10, 1004.2, 1005.2 + LATER), (99, 1009, 1010 + LATER)]
    assert found(True) == [(1, 1001, 1002 + LATER), (1, 1003, 1004.2), *found(False)[1:]]
    assert phases(moves) == []  # it is no mobile node that is away from home


@pytest.mark.parametrize(("again", "held"), [(1, True), (9, False)])
def test_the_exponent_of_a_crowd(again, held) -> None:
    events, times, clock = [], [], 0.0
    for part in (ONE, TEN, ALL):
        for _ in range(again if part is ALL else 1):
            events += of_crowd(clock, *part)
            times += [1000 + clock + 0.5] * 2 * part[1]
            clock += 3
    frames = tuple(Frame(int(time * 1e9), RAW_IP, b"E", 1) for time in times)
    wires = SimpleNamespace(match_all=lambda taps, _: [Matched(taps[0], frames, 2000, True, 0)])
    sight = Sight(facts=SimpleNamespace(), wires=wires, events=events)
    wanted = {"at": "ha/internet", "filter": "udp", "at-most": 1.1}
    decision = Growth.model_validate(wanted).judge(sight)
    assert decision.held is held and f"1: 2, 10: 20, 99: {198 * again}" in decision.observed
