"""Small rules of RFC 5944 that docs/conformance.md asks about."""

from __future__ import annotations

import pytest
from mip_world import sent
from test_mip_foreign_agent import Bench as ForeignAgentBench
from test_mip_mobile_node import Bench

from testbed.mobileip.wire.agent_advertisement import AgentFlag


@pytest.mark.parametrize("reserved", [0x001F, AgentFlag.R])
def test_reserved_bits_of_an_advertisement_are_ignored(reserved):
    """§2.4."""
    bench = Bench()
    bench.discover()
    bench.advertise(flags=AgentFlag.FOREIGN_AGENT | reserved)
    assert bench.state() == "registering"


def test_the_first_repetition_waits_for_twice_the_round_trip_and_a_tenth_of_a_second():
    """§3.6.3."""
    bench = Bench()
    bench.attach()
    bench.now = 0.9
    bench.reply()
    bench.mn.renew(10.0)
    bench.now = 10.0
    bench.take()
    bench.run(40.0)
    assert [round(when, 6) for when in bench.sent_at()] == [0.0, 10.0, 11.9, 15.7, 23.3, 38.5]


def test_a_pending_request_ends_with_its_lifetime():
    """§3.7.2.2."""
    bench = ForeignAgentBench()
    bench.ask(at=1.0, lifetime=3)
    bench.fa.tick(3.9)
    assert sent(bench.fa.effects()) == []
    bench.fa.tick(4.0)
    assert len(sent(bench.fa.effects())) == 1 and bench.fa.state(4.0)["pending"] == []
