"""How fast a mobile node may ask: RFC 5944 §2.4 and §3.6.3, counted from when its messages leave."""

from __future__ import annotations

from itertools import pairwise

import pytest
from test_mip_mobile_node import SA, Bench, at_foreign_agent

from testbed.mobileip.core.mobile.repetition import JITTER


def test_three_solicitations_at_the_initial_rate_and_no_more():
    bench = Bench()
    bench.discover()
    bench.run(40.0)
    gaps = [b - a for a, b in pairwise(bench.solicited_at())]
    nominal = [1, 1, 2, 4, 8]
    assert all(each <= gap <= each * 1.25 for gap, each in zip(gaps, nominal, strict=False))
    assert len({round(gap / each, 6) for gap, each in zip(gaps, nominal, strict=False)}) == 5  # at random


@pytest.mark.parametrize(("code", "proof"), [(69, None), (133, SA), (136, SA)])
def test_a_repair_waits_a_second_from_the_departure_of_what_was_refused(code, proof):
    bench = at_foreign_agent()
    bench.now = 2.0
    bench.advertise(lifetime=100)
    bench.mn.renew(2.0)
    bench.take()
    bench.mn.departed(2.4)  # the machine was busy
    bench.now = 2.5
    before = len(bench.sent_at())
    bench.reply(code=code, lifetime=300, sa=proof)
    bench.run(3.39)
    assert len(bench.sent_at()) == before
    bench.run(3.4)
    assert len(bench.sent_at()) == before + 1


def test_a_repetition_waits_for_its_time_from_the_departure_on():
    bench = Bench()
    bench.attach()
    bench.mn.departed(0.7)
    bench.run(20.0)
    assert bench.sent_at()[:2] == [0.0, 1.7] and 2.0 <= bench.sent_at()[2] - 1.7 <= 2.0 * JITTER


def test_what_still_waits_for_arp_is_not_overtaken_by_its_repetition():
    bench = Bench()
    bench.attach()
    bench.mn.held_back()
    bench.run(1.5)
    assert bench.sent_at() == [0.0]  # both would leave together, when the answer comes
    bench.mn.departed(1.5)
    bench.run(2.49)
    assert bench.sent_at() == [0.0]
    bench.run(2.5)
    assert bench.sent_at() == [0.0, 2.5]


def test_a_next_hop_that_never_answers_does_not_end_the_asking():
    bench = Bench()
    bench.attach()
    bench.mn.held_back()
    bench.run(10.0)
    assert bench.sent_at()[:2] == [0.0, 3.0]  # the kernel has given up: three tries, a second apart


def test_a_move_waits_for_nothing():
    bench = Bench()
    bench.attach()
    bench.mn.held_back()
    bench.run(0.5)
    bench.attach("other")
    assert bench.sent_at() == [0.0, 0.5]
    bench.mn.departed(0.501)
    bench.run(1.6)
    assert bench.sent_at() == [0.0, 0.5, 1.501]
