"""The M and G bits: who asks for which encapsulation, who grants it, and what the tunnels then use."""

from __future__ import annotations

from random import Random

import pytest
from mip_world import (
    CARE_OF,
    FA_CARE_OF,
    HOME_ADDRESS,
    HOME_AGENT,
    World,
    clock,
    events,
    foreign_agent_config,
    home_agent_config,
    mobile_node_config,
)

from testbed.mobileip.core.api import TunnelEnd
from testbed.mobileip.core.encapsulations import agreed
from testbed.mobileip.core.foreign.effects import SetVisitor
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home.effects import SetBinding
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile.effects import UseCoLocated
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag

GRE, MINIMAL, IP_IN_IP = Encapsulation.GRE, Encapsulation.MINIMAL, Encapsulation.IP_IN_IP


def world(asks: Encapsulation, agents=(GRE, MINIMAL), home_agent=(GRE, MINIMAL)) -> World:
    config = mobile_node_config(encapsulation=asks, reverse_tunnel=True)
    return World(
        MobileNode(config, clock, Random(1)),
        HomeAgent(home_agent_config(encapsulations=home_agent), clock, Random(2)),
        [ForeignAgent(foreign_agent_config(encapsulations=agents), clock, Random(3))],
    )


def told(world: World, kind: type) -> list:
    return [effect for _, _, effect in world.log if isinstance(effect, kind)]


def codes(world: World) -> list[object]:
    return [each["code"] for each in events([effect for _, _, effect in world.log], "reply")]


def encapsulation(world: World) -> object:
    return events([effect for _, _, effect in world.log], "registered")[-1]["encapsulation"]


def asked(world: World) -> list[int]:
    requests = (RegistrationRequest.decode(payload) for payload in world.wire if payload[0] == 1)
    return [request.flags & (RequestFlag.GRE | RequestFlag.MINIMAL) for request in requests]


def test_what_flags_agree_on() -> None:
    assert agreed(RequestFlag.REVERSE_TUNNEL) == (IP_IN_IP,)
    assert agreed(RequestFlag.GRE) == (GRE, IP_IN_IP)
    assert agreed(RequestFlag.MINIMAL | RequestFlag.DECAPSULATION) == (MINIMAL, IP_IN_IP)
    assert agreed(RequestFlag.MINIMAL | RequestFlag.GRE) == (GRE, MINIMAL, IP_IN_IP)


@pytest.mark.parametrize("asks", [IP_IN_IP, GRE, MINIMAL])
def test_both_ends_use_what_was_agreed_on(asks: Encapsulation) -> None:
    expected = (asks,) if asks is IP_IN_IP else (asks, IP_IN_IP)
    there = world(asks)
    there.attach("hotel", CARE_OF)
    there.run(0.1)
    assert told(there, SetBinding)[-1].ends == (TunnelEnd(CARE_OF, expected),)
    assert told(there, UseCoLocated)[-1].home_agent == TunnelEnd(HOME_AGENT, expected)
    assert encapsulation(there) == asks.value
    there.discover("visited")
    there.run(0.1)
    assert told(there, SetBinding)[-1].ends == (TunnelEnd(FA_CARE_OF, expected),)
    assert told(there, SetVisitor)[-1].home_agent == TunnelEnd(HOME_AGENT, expected)
    assert there.ha.state(there.now)["bindings"][0]["bindings"][0]["encapsulation"] == asks.value
    assert there.fas[0].state(there.now)["visitors"][0]["encapsulation"] == asks.value


def test_what_an_agent_does_not_offer_is_not_asked_of_it() -> None:
    """RFC 5944 §3.6.1.1: "Otherwise, the mobile node MUST NOT set these bits"."""
    there = world(GRE, agents=(MINIMAL,))
    there.discover("visited")
    there.run(0.1)
    assert asked(there) == [0, 0] and codes(there) == [0]
    there.attach("hotel", CARE_OF)
    there.run(0.1)
    assert asked(there)[2:] == [RequestFlag.GRE]


def test_a_home_agent_that_refuses_gre_is_asked_for_ip_in_ip() -> None:
    """RFC 3024 §4.1.2: it may be asked again without."""
    there = world(GRE, home_agent=(MINIMAL,))
    there.attach("hotel", CARE_OF)
    there.run(1.5)
    assert asked(there) == [RequestFlag.GRE, 0] and codes(there) == [139, 0]
    assert told(there, SetBinding)[-1].ends == (TunnelEnd(CARE_OF),) and encapsulation(there) == "ip-in-ip"
    there.run(700)  # renewals do not ask in vain
    assert set(asked(there)[1:]) == {0} and codes(there).count(139) == 1
    there.discover("visited")
    there.run(1.5)
    assert codes(there)[-2:] == [139, 0] and there.reachable()


def test_a_foreign_agent_that_refuses_what_it_offered_is_asked_for_ip_in_ip() -> None:
    there = world(MINIMAL)
    there.discover("visited")
    agent = there.fas[0]
    there.run(0.0015)  # advertised, not yet asked
    object.__setattr__(agent.config, "encapsulations", ())
    there.run(1.5)
    assert codes(there) == [72, 0] and there.reachable() and encapsulation(there) == "ip-in-ip"


def test_a_tunnel_changes_with_the_bits_of_a_renewal() -> None:
    there = world(GRE)
    there.attach("hotel", CARE_OF)
    there.run(0.1)
    object.__setattr__(there.mn.config, "encapsulation", MINIMAL)
    there.mn.renew(there.now)
    there.run(1.5)
    assert [each.ends[0].encapsulations[0] for each in told(there, SetBinding)] == [GRE, MINIMAL]
    assert [each.home_agent.encapsulations[0] for each in told(there, UseCoLocated)] == [GRE, MINIMAL]
    assert HOME_ADDRESS in there.bindings


def test_a_co_located_care_of_address_through_an_agent_is_the_mobile_nodes_affair() -> None:
    there = world(GRE, agents=())
    there.attach("visited", FA_CARE_OF + 1)
    there.run(3.0)  # the agent's R bit makes it register through the agent
    assert there.fas[0].counters["requests-relayed"] > 0 and 72 not in codes(there)
    assert asked(there)[-1] == RequestFlag.GRE and there.reachable()
