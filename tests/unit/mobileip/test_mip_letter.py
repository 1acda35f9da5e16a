"""Small rules of RFC 5944 that docs/conformance.md asks about."""

from __future__ import annotations

import pytest
from mip_world import EPOCH, A, sent
from test_mip_foreign_agent import Bench as ForeignAgentBench
from test_mip_home_agent import Bench as HomeAgentBench
from test_mip_mobile_node import Bench, at_foreign_agent, backs_off

from testbed.mobileip.wire.agent_advertisement import AgentFlag
from testbed.mobileip.wire.identification import from_unix


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
    assert bench.sent_at()[0] == 0.0 and backs_off(bench.sent_at()[1:], first=1.9)


def test_a_pending_request_ends_with_its_lifetime():
    """§3.7.2.2."""
    bench = ForeignAgentBench()
    bench.ask(at=1.0, lifetime=3)
    bench.fa.tick(3.9)
    assert sent(bench.fa.effects()) == []
    bench.fa.tick(4.0)
    assert len(sent(bench.fa.effects())) == 1 and bench.fa.state(4.0)["pending"] == []


def test_nobody_registers_on_an_advertisement_that_has_expired():
    """§2.4.2.2."""
    bench = at_foreign_agent()
    bench.run(0.5)
    bench.advertise(A("192.0.2.2"), lifetime=1)
    bench.run(10.0)
    assert bench.state() == "discovering" and len(bench.sent_at()) == 1


@pytest.mark.parametrize("skew", [-6.5, -3.5, 3.5, 6.5])
def test_a_clock_may_be_off_by_more_than_three_seconds(skew):
    """§5.7.1."""
    assert HomeAgentBench().ask(skew=skew).code == 0


def test_no_clock_follows_a_reply_to_another_request():
    """§5.7.1: the low half is compared before the high one is used."""
    bench = Bench()
    bench.attach()
    theirs = from_unix(EPOCH + 3600) % 2**64
    assert theirs & 0xFFFFFFFF != bench.request.low_identification
    bench.reply(code=133, identification=theirs)
    assert bench.state("clock_offset") == 0 and bench.counters["discarded-identification"] == 1


def test_a_denial_for_its_clock_repeats_the_low_half_and_a_grant_the_whole_identification():
    """§5.7, §5.7.1."""
    bench = HomeAgentBench()
    for skew, code in ((100.0, 133), (0.0, 0)):
        reply = bench.ask(skew=skew)
        assert reply.code == code
        assert (reply.identification == bench.request.identification) is (code == 0)
        assert reply.low_identification == bench.request.low_identification
