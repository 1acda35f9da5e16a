"""Several links and care-of addresses of a foreign agent; several bindings, home agents of a mobile node."""

from ipaddress import IPv4Address, IPv4Interface
from random import Random

import pytest
from mip_world import (
    CARE_OF,
    FA_ADDRESS,
    FA_CARE_OF,
    HOME_ADDRESS,
    HOME_AGENT,
    MN_MAC,
    A,
    World,
    association,
    clock,
    events,
    foreign_agent_config,
    home_agent_config,
    mobile_node_config,
)
from test_mip_foreign_agent import Bench as ForeignBench
from test_mip_mobile_node import Bench as MobileBench

from testbed.mobileip.core.api import AgentMessage, FormerTunnel, SendAgentMessage, TunnelEnd
from testbed.mobileip.core.foreign.effects import SetVisitor
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.links import VisitedLink
from testbed.mobileip.core.mobile.effects import UseCoLocated, UseForeignAgent, UseHome, UseNothing
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.wire import agent_solicitation
from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement, AgentFlag
from testbed.mobileip.wire.registration_request import RequestFlag

LOUNGE = VisitedLink("lounge", A("192.0.2.65"), 26)
OTHER_CARE_OF, ELSEWHERE, OTHER_AGENT = A("203.0.113.11"), A("198.51.100.200"), A("10.0.1.3")
SECOND = association(OTHER_AGENT, 300, b"second home agent")


def advertisements(effects):
    found = {}
    for effect in effects:
        if isinstance(effect, SendAgentMessage):
            found[effect.message.interface] = (
                effect.message.source,
                AgentAdvertisement.decode(effect.message.payload),
            )
    return found


# -- foreign agent ----------------------------------------------------------------------------------------


@pytest.fixture
def bench():
    return ForeignBench(prefix_length=26, other_links=(LOUNGE,), other_care_of=(OTHER_CARE_OF,))


def test_every_care_of_address_is_advertised_on_every_link(bench):
    bench.fa.tick(0.0)
    found = advertisements(bench.fa.effects())
    assert {link: source for link, (source, _) in found.items()} == {
        "visited": FA_ADDRESS,
        "lounge": LOUNGE.address,
    }
    for source, advertisement in found.values():
        assert advertisement.mobility.care_of_addresses == (FA_CARE_OF, OTHER_CARE_OF)
        assert advertisement.routers == ((source, 0),)
    assert found["lounge"][1].prefix_lengths == (26,)


def test_a_solicitation_is_answered_on_its_link(bench):
    bench.fa.tick(0.0)
    bench.fa.effects()
    message = AgentMessage(agent_solicitation.encode(), CARE_OF, A("224.0.0.11"), "lounge", 1, MN_MAC)
    bench.fa.receive_agent_message(message, 0.1)
    assert [*advertisements(bench.fa.effects())] == ["lounge"]


@pytest.mark.parametrize("care_of", [FA_CARE_OF, OTHER_CARE_OF])
def test_a_request_is_relayed_from_the_care_of_address_it_asks_for(bench, care_of):
    kind, out = bench.ask(care_of_address=care_of, interface="lounge", destination=LOUNGE.address)
    assert kind == "relay" and out.source == care_of
    reply = bench.answer()
    assert reply.code == 0 and bench.out.interface == "lounge" and bench.out.source == LOUNGE.address
    (visitor,) = [effect for effect in bench.effects if isinstance(effect, SetVisitor)]
    assert (visitor.care_of_address, visitor.interface) == (care_of, "lounge")
    assert bench.fa.state(bench.now)["visitors"][0]["interface"] == "lounge"


def test_another_care_of_address_is_denied(bench):
    assert bench.ask(care_of_address=A("203.0.113.12"))[1].code == 77


def test_what_does_not_come_from_one_of_its_links_is_discarded(bench):
    assert bench.ask(interface="internet") is None


def test_a_visitor_that_changes_links_is_on_the_other(bench):
    bench.ask()
    bench.answer()
    bench.ask(interface="lounge", destination=LOUNGE.address)
    bench.answer()
    (visitor,) = [effect for effect in bench.effects if isinstance(effect, SetVisitor)]
    assert visitor.interface == "lounge"


@pytest.mark.parametrize(
    "changes",
    [
        {"other_links": (VisitedLink("visited", LOUNGE.address),)},
        {"other_care_of": (FA_CARE_OF,)},
        {"other_care_of": tuple(A(0xCB007200 + n) for n in range(63))},
        {"port": 0},
    ],
)
def test_what_no_foreign_agent_can_be(changes):
    with pytest.raises(ValueError):
        foreign_agent_config(**changes)


def test_beside_a_home_agent_it_relays_to_it_and_from_another_port():
    beside = ForeignBench(
        own_addresses=frozenset({HOME_AGENT}), home_agents_here=frozenset({HOME_AGENT}), port=4434
    )
    kind, out = beside.ask()
    assert kind == "relay" and out.source_port == 4434 and out.destination_port == 434
    alone = ForeignBench(own_addresses=frozenset({HOME_AGENT}))
    assert alone.ask()[1].code == 194


def test_a_home_agent_takes_the_care_of_address_of_a_foreign_agent_beside_it():
    own = frozenset({IPv4Interface(f"{FA_CARE_OF}/24"), IPv4Interface(f"{CARE_OF}/24")})
    beside = home_agent_config(own_addresses=own, foreign_agents_here=frozenset({FA_CARE_OF}))
    assert FA_CARE_OF not in beside.never_care_of and CARE_OF in beside.never_care_of
    assert FA_CARE_OF in home_agent_config(own_addresses=own).never_care_of


# -- mobile node: several bindings ------------------------------------------------------------------------


def flags(bench):
    return RequestFlag(bench.request.flags)


def test_a_move_leaves_the_former_place_registered_and_in_use_until_the_next_is_granted():
    bench = MobileBench(overlap=5.0, reverse_tunnel=True)
    bench.attach()
    assert not flags(bench) & RequestFlag.SIMULTANEOUS  # nothing is to be kept
    bench.reply()
    bench.now = 10.0
    bench.attach("airport", ELSEWHERE)
    assert flags(bench) & RequestFlag.SIMULTANEOUS and bench.request.care_of_address == ELSEWHERE
    assert not bench.of(UseNothing, UseCoLocated)
    bench.reply()
    end = TunnelEnd(HOME_AGENT)
    former = (FormerTunnel(CARE_OF, end),)
    assert bench.of(UseCoLocated) == [UseCoLocated("airport", ELSEWHERE, end, True, former)]
    assert bench.state("former_care_of") == [str(CARE_OF)]
    bench.run(15.0)
    assert (bench.request.lifetime, bench.request.care_of_address) == (0, CARE_OF)
    assert bench.out.interface == "airport" and flags(bench) & RequestFlag.DECAPSULATION
    bench.reply()
    assert bench.of(UseCoLocated) == [UseCoLocated("airport", ELSEWHERE, end, True)]
    assert bench.state() == "registered" and bench.state("former_care_of") == []
    bench.run(700.0)  # renewals are no longer beside anything
    assert bench.request.lifetime and not flags(bench) & RequestFlag.SIMULTANEOUS


def test_a_renewal_beside_a_former_place_keeps_it():
    bench = MobileBench(overlap=300.0, lifetime=100)
    bench.attach()
    bench.reply()
    bench.attach("airport", ELSEWHERE)
    bench.reply()
    bench.run(95.0)
    assert bench.request.care_of_address == ELSEWHERE and flags(bench) & RequestFlag.SIMULTANEOUS


def test_through_a_foreign_agent_it_goes_on_as_before_until_it_is_granted():
    bench = MobileBench(overlap=5.0)
    bench.attach()
    bench.reply()
    bench.discover()
    bench.advertise()
    assert not bench.of(UseForeignAgent, UseNothing) and flags(bench) & RequestFlag.SIMULTANEOUS
    bench.reply()
    (use,) = bench.of(UseForeignAgent)
    assert use.registered and use.former == (FormerTunnel(CARE_OF, TunnelEnd(HOME_AGENT)),)


def test_a_home_agent_without_simultaneous_bindings_has_only_the_last():
    bench = MobileBench(overlap=5.0)
    bench.attach()
    bench.reply(code=1)
    bench.attach("airport", ELSEWHERE)
    bench.reply(code=1)
    assert bench.of(UseCoLocated)[0].former == () and bench.state("former_care_of") == []
    sent = len(bench.sent_at())
    bench.run(60.0)
    assert len(bench.sent_at()) == sent


def test_135_is_asked_again_without_the_bit():
    bench = MobileBench(overlap=5.0)
    bench.attach()
    bench.reply()
    bench.attach("airport", ELSEWHERE)
    bench.reply(code=135)
    bench.run(3.0)
    assert bench.request.care_of_address == ELSEWHERE and not flags(bench) & RequestFlag.SIMULTANEOUS


def test_what_is_not_given_back_in_time_expires():
    bench = MobileBench(overlap=5.0)
    bench.attach()
    bench.reply()
    bench.attach("airport", ELSEWHERE)
    bench.reply()
    bench.run(60.0)
    assert bench.state("former_care_of") == [] and bench.state() == "registered"


@pytest.mark.parametrize("leave", ["detach", "home", "same-link", "no-overlap"])
def test_what_is_not_kept(leave):
    bench = MobileBench(overlap=0.0 if leave == "no-overlap" else 5.0)
    bench.attach()
    bench.reply()
    if leave == "detach":
        bench.mn.detach(bench.now)
        assert bench.take() and bench.of(UseNothing)
    elif leave == "home":
        bench.discover("home")
        bench.home()
        assert bench.of(UseHome) and bench.request.care_of_address == HOME_ADDRESS
        bench.reply()
        assert bench.state("former_care_of") == [] and bench.state() == "at-home"
    else:
        bench.attach("hotel" if leave == "same-link" else "airport", ELSEWHERE)
        assert bench.of(UseNothing) and not flags(bench) & RequestFlag.SIMULTANEOUS


def test_make_before_break_together():
    """With the home agent: both care-of addresses are registered, then the last alone."""
    mn = MobileNode(mobile_node_config(overlap=5.0, reverse_tunnel=True), clock, Random(1))
    world = World(mn)
    world.discover("visited")
    world.run(2.0)
    assert world.bindings[HOME_ADDRESS] == (FA_CARE_OF,) and world.reachable()
    world.attach("hotel", CARE_OF)
    world.run(1.0)
    assert world.bindings[HOME_ADDRESS] == (FA_CARE_OF, CARE_OF) and world.reachable()
    world.run(6.0)
    assert world.bindings[HOME_ADDRESS] == (CARE_OF,) and world.reachable()


# -- mobile node: several home agents ---------------------------------------------------------------------


def test_an_unanswered_home_agent_is_left_for_the_next():
    bench = MobileBench(other_home_agents=(SECOND,))
    bench.attach()
    bench.run(8.0)
    assert bench.out.destination == bench.request.home_agent == OTHER_AGENT
    bench.reply(sa=SECOND)
    assert bench.of(UseCoLocated)[0].home_agent == TunnelEnd(OTHER_AGENT)
    assert bench.state("home_agent") == str(OTHER_AGENT)


def test_only_the_association_with_that_home_agent_proves_its_reply():
    bench = MobileBench(other_home_agents=(SECOND,))
    bench.attach()
    bench.run(8.0)
    bench.reply()
    assert bench.state() == "registering"


def test_they_are_asked_round_and_round():
    bench = MobileBench(other_home_agents=(SECOND,))
    bench.attach()
    bench.run(40.0)
    asked = [event["home_agent"] for _, effect in bench.history for event in events([effect], "home-agent")]
    assert asked[:3] == [str(OTHER_AGENT), str(HOME_AGENT), str(OTHER_AGENT)]


@pytest.mark.parametrize("code", [128, 129, 130, 136])
def test_an_unwilling_home_agent_is_left_for_the_next(code):
    bench = MobileBench(other_home_agents=(SECOND,))
    bench.attach()
    bench.reply(code=code)
    bench.run(3.0)
    assert bench.request.home_agent == OTHER_AGENT


@pytest.mark.parametrize("code", [128, 136])
def test_a_denial_may_refer_to_another_home_agent(code):
    bench = MobileBench()
    bench.attach()
    bench.reply(code=code, home_agent=OTHER_AGENT)
    bench.run(3.0)
    assert bench.request.home_agent == OTHER_AGENT


def test_two_that_refer_to_each_other_are_asked_once_each():
    bench = MobileBench()
    bench.attach()
    for _ in range(4):
        other = HOME_AGENT if bench.request.home_agent == OTHER_AGENT else OTHER_AGENT
        bench.reply(code=136, home_agent=other)
        bench.run(bench.now + 70.0)
    assert len(bench.sent_at()) < 20


def test_one_found_once_by_broadcast_is_found_again_after_a_silence():
    broadcast = IPv4Address("192.0.2.255")
    bench = MobileBench(home_agent=broadcast)
    bench.attach()
    bench.reply(code=136, home_agent=HOME_AGENT)
    bench.run(20.0)  # it is silent, and so the broadcast is asked again
    assert bench.request.home_agent == broadcast
    bench.reply(code=136, home_agent=HOME_AGENT)
    bench.run(bench.now + 2.0)
    assert bench.request.home_agent == HOME_AGENT


@pytest.mark.parametrize("code", [78, 80, 81, 82, 88])
def test_where_the_foreign_agent_cannot_reach_it_the_next_is_asked_through_the_same(code):
    bench = MobileBench(other_home_agents=(SECOND,))
    bench.discover()
    bench.advertise(care_of=(FA_CARE_OF, OTHER_CARE_OF))
    bench.reply(sa=None, code=code)
    bench.run(3.0)
    assert (bench.request.home_agent, bench.request.care_of_address) == (OTHER_AGENT, FA_CARE_OF)


def test_other_denials_stay_with_the_home_agent():
    bench = MobileBench(other_home_agents=(SECOND,))
    bench.attach()
    bench.reply(code=133)
    bench.run(3.0)
    assert bench.request.home_agent == HOME_AGENT


def test_a_home_agent_that_dies_is_replaced_together():
    second = HomeAgent(
        home_agent_config(address=OTHER_AGENT, mobile_nodes=(association(HOME_ADDRESS, 300, SECOND.key),)),
        clock,
        Random(7),
    )
    world = World(MobileNode(mobile_node_config(other_home_agents=(SECOND,)), clock, Random(1)), second)
    world.attach("hotel", CARE_OF)
    world.run(20.0)
    assert world.bindings[HOME_ADDRESS] == (CARE_OF,) and world.reachable()


@pytest.mark.parametrize(
    "changes", [{"other_home_agents": (association(HOME_AGENT),)}, {"overlap": -1.0}, {"port": 70000}]
)
def test_what_no_mobile_node_can_be(changes):
    with pytest.raises(ValueError):
        mobile_node_config(**changes)


def test_requests_leave_from_its_port():
    bench = MobileBench(port=5434)
    bench.attach()
    assert (bench.out.source_port, bench.out.destination_port) == (5434, 434)


def test_a_restarted_agent_knows_which_link_a_visitor_is_on(bench):
    bench.ask(interface="lounge", destination=LOUNGE.address)
    bench.answer()
    record = next(effect.record for effect in bench.effects if hasattr(effect, "record"))
    again = ForeignAgent(bench.fa.config, clock, Random(2))
    again.restore({HOME_ADDRESS: record}, bench.now)
    (visitor,) = [effect for effect in again.effects() if isinstance(effect, SetVisitor)]
    assert visitor.interface == "lounge"


def test_flags_of_every_link_are_the_same(bench):
    bench.fa.tick(0.0)
    assert {int(each.mobility.flags) for _, each in advertisements(bench.fa.effects()).values()} == {
        int(
            AgentFlag.FOREIGN_AGENT
            | AgentFlag.REGISTRATION_REQUIRED
            | AgentFlag.REVERSE_TUNNEL
            | AgentFlag.GRE
            | AgentFlag.MINIMAL
        )
    }
