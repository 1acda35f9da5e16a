"""Agent advertisements: RFC 5944 §2.3, RFC 1256 §4.1."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from mip_world import FA_ADDRESS, FA_CARE_OF, HOME_ADDRESS, MN_MAC, A, clock, foreign_agent_config

from testbed.mobileip.core.advertiser import next_sequence
from testbed.mobileip.core.api import AgentMessage, SendAgentMessage
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.parameters import Advertising
from testbed.mobileip.wire import agent_solicitation
from testbed.mobileip.wire.agent_advertisement import (
    COMMON_TRAFFIC,
    NO_COMMON_TRAFFIC,
    AgentAdvertisement,
    AgentFlag,
)


def collect(fa: ForeignAgent, until: float) -> list[tuple[float, AgentAdvertisement]]:
    seen = []
    while (when := fa.deadline()) <= until:
        fa.tick(when)
        for effect in fa.effects():
            if isinstance(effect, SendAgentMessage):
                seen.append((when, AgentAdvertisement.decode(effect.message.payload)))
    return seen


def test_advertisements_come_at_randomised_intervals_with_growing_numbers():
    seen = collect(ForeignAgent(foreign_agent_config(prefix_length=26), clock), 100.0)
    times = [when for when, _ in seen]
    gaps = {round(b - a, 6) for a, b in pairwise(times)}
    assert times[0] == 0.0 and all(0.75 <= gap <= 1.0 for gap in gaps) and len(gaps) > 50
    assert [each.mobility.sequence for _, each in seen] == list(range(len(seen)))
    first = seen[0][1]
    flags = AgentFlag.FOREIGN_AGENT | AgentFlag.REGISTRATION_REQUIRED | AgentFlag.REVERSE_TUNNEL
    flags |= AgentFlag.GRE | AgentFlag.MINIMAL
    assert first.mobility.flags == flags and first.mobility.care_of_addresses == (FA_CARE_OF,)
    assert (first.lifetime, first.mobility.registration_lifetime) == (3, 600)
    assert first.routers == ((FA_ADDRESS, 0),) and [str(each) for each in first.prefixes] == ["192.0.2.0/26"]


def test_the_sequence_rolls_over_to_256():
    assert next_sequence(0) == 1 and next_sequence(0xFFFE) == 0xFFFF and next_sequence(0xFFFF) == 256
    fa = ForeignAgent(foreign_agent_config(advertising=Advertising(0.05, 1)), clock, Random(1))
    fa._advertisers[fa.config.interface].sequence = 0xFFF0  # a real fifteen hours would take two seconds here
    numbers = [each.mobility.sequence for _, each in collect(fa, 1.0)]
    assert numbers[:19] == [*range(0xFFF0, 0x10000), 256, 257, 258]


def solicitation(source=HOME_ADDRESS, link_address=MN_MAC) -> AgentMessage:
    return AgentMessage(agent_solicitation.encode(), source, A("224.0.0.11"), "visited", 1, link_address)


def test_a_flood_of_solicitations_is_answered_at_a_bounded_rate():
    fa = ForeignAgent(foreign_agent_config(), clock, Random(1))
    fa.tick(0.0)
    fa.effects()
    unicast = 0
    for step in range(10_000):
        fa.receive_agent_message(solicitation(A(0x0A000001 + step)), 0.5 + step / 10_000)
        unicast += len(fa.effects())
    assert 1000 <= unicast <= 2001
    assert fa.counters["solicitations-not-answered-rate"] == 10_000 - unicast
    multicast, now = 0, 10.0
    for step in range(10_000):  # such as have no address yet are answered to all
        now = 10.0 + step / 10_000
        fa.receive_agent_message(solicitation(A("0.0.0.0")), now)
        fa.tick(now)
        multicast += len(fa.effects())
    assert multicast <= 1 / 0.05 + 2


@pytest.mark.parametrize(("required", "code"), [(True, NO_COMMON_TRAFFIC), (False, COMMON_TRAFFIC)])
def test_the_code_says_whether_common_traffic_is_routed(required, code):
    """§2.1: 16 where only registered mobile nodes are forwarded for; `ForeignAgentRole` does as it says."""
    (first, *_) = collect(ForeignAgent(foreign_agent_config(registration_required=required), clock), 0.5)
    assert first[1].code == code
    assert bool(first[1].mobility.flags & AgentFlag.REGISTRATION_REQUIRED) is required
