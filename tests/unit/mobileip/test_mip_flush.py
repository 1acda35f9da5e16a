"""Agents that are told to forget: lists empty, tunnels and proxies gone, nothing sent, ready for the next."""

from mip_world import HOME_ADDRESS, events, sent
from test_mip_foreign_agent import Bench as ForeignBench
from test_mip_home_agent import Bench as HomeBench

from testbed.mobileip.core.foreign.effects import ClearVisitor
from testbed.mobileip.core.home.effects import ClearBinding, ProxyArp


def test_a_home_agent_forgets_its_bindings():
    bench = HomeBench()
    assert bench.ask().code == 0
    bench.ha.flush()
    effects = bench.ha.effects()
    assert ClearBinding(HOME_ADDRESS) in effects and ProxyArp(HOME_ADDRESS, False) in effects
    assert len(events(effects, "binding-removed")) == 1 and not sent(effects)
    assert bench.ha.state(bench.now)["bindings"] == []
    bench.ha.flush()
    assert bench.ha.effects() == []
    assert bench.ask().code == 0


def test_a_foreign_agent_forgets_requests_and_visitors():
    bench = ForeignBench()
    bench.ask()
    bench.answer()
    assert bench.visitors == [HOME_ADDRESS] or bench.visitors == [str(HOME_ADDRESS)]
    bench.ask()  # a renewal that is not answered yet
    bench.fa.flush()
    effects = bench.fa.effects()
    assert ClearVisitor(HOME_ADDRESS) in effects and not sent(effects)
    state = bench.fa.state(bench.now)
    assert state["visitors"] == [] and state["pending"] == []
    bench.fa.tick(bench.now + 1000)  # neither a timeout nor an expiry is left
    later = bench.fa.effects()
    assert not sent(later) and not events(later, "visitor-expired") and not events(later, "denied")
    bench.ask(at=bench.now + 1)
    assert bench.answer().code == 0
