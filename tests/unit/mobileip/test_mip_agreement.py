"""Whatever happens to networks and processes, the three come to agree: bindings, visitors, registrations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from agreement_world import DAY, Layout, Weather, build, come_to_rest, live
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.mobileip.core import foreign_agent, replay
from testbed.mobileip.core.api import Remember
from testbed.mobileip.core.foreign import pending, visitors
from testbed.mobileip.core.foreign.effects import ClearVisitor
from testbed.mobileip.core.home import bindings, grants
from testbed.mobileip.core.mobile import movement, registrar
from testbed.mobileip.core.parameters import Advertising

BAD = Weather(loss=0.05, duplication=0.05, late=0.03, latest=12.0)


def test_a_day_of_100_mobile_nodes():
    layout = Layout(100, 2, 1, 6, (1200, 1800, 3600), Advertising(300.0, 900))
    world = build(layout, 11, BAD)
    watch = live(world, hours=22.0, stay=3600.0, pause=600.0, checks=600.0)
    come_to_rest(world, watch)
    assert world.network.now > DAY
    assert watch.codes[0] > 5_000 and watch.codes[133] > 500 and world.network.kills > 100
    places = Counter(str(node.core.state(world.network.now)["state"]) for node in world.nodes)
    assert places["registered"] > 50 and places["at-home"] > 2


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**32),
    st.builds(
        Layout,
        nodes=st.integers(1, 6),
        home_networks=st.integers(1, 2),
        home_agents=st.integers(1, 2),
        foreign_agents=st.integers(1, 3),
        lifetimes=st.sampled_from(((60, 120), (20,), (300, 45))),
        advertising=st.sampled_from((Advertising(10.0, 30), Advertising(1.0, 3))),
    ),
    st.builds(
        Weather,
        loss=st.sampled_from((0.0, 0.05, 0.3)),
        duplication=st.sampled_from((0.0, 0.1, 0.5)),
        late=st.sampled_from((0.0, 0.05, 0.5)),
        latest=st.sampled_from((1.0, 12.0, 60.0)),
    ),
    st.sampled_from((15.0, 90.0, 400.0)),
)
def test_whatever_happens_they_agree_when_it_is_over(seed, layout, weather, stay):
    world = build(layout, seed, weather)
    watch = live(world, hours=0.25, stay=stay, pause=30.0, checks=10.0)
    come_to_rest(world, watch)


# What the watch and the comparison are worth: each fault in a core shows.


def _nothing(*arguments, **keywords):
    return None


def _clears_too_little(*effects):
    """A foreign agent that ends a visit with these effects alone."""

    def clear(visits, home_address, event):
        del visits._visitors[home_address]
        visits._timers.cancel(home_address)
        visits._out.add(*(each(home_address) for each in effects))

    return clear


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a binding lives twice as long": lambda patch: patch.setattr(
        bindings.Binding, "expires", property(lambda self: self.since + 2 * self.lifetime)
    ),
    "a binding lives half as long": lambda patch: patch.setattr(
        bindings.Binding, "expires", property(lambda self: self.since + self.lifetime / 2)
    ),
    "a visitor stays twice as long": lambda patch: patch.setattr(
        visitors.Visitor, "expires", property(lambda self: self.since + 2 * self.lifetime)
    ),
    "a restart renews every binding": lambda patch: patch.setattr(
        bindings.Binding, "from_record", _renewed(bindings.Binding.from_record)
    ),
    "a restart renews every visitor": lambda patch: patch.setattr(
        visitors.Visitor, "from_record", _renewed(visitors.Visitor.from_record)
    ),
    "what was accepted is forgotten by a restart": lambda patch: patch.setattr(
        replay.Timestamps, "restore", _nothing
    ),
    "what was accepted is not remembered": lambda patch: patch.setattr(replay.Timestamps, "accept", _nothing),
    "bindings are not remembered": lambda patch: patch.setattr(grants.Grants, "remember", _nothing),
    "a new care-of address leaves the old one": lambda patch: patch.setattr(
        bindings.BindingTable, "add", _retaining(bindings.BindingTable.add)
    ),
    "a visitor who left is forwarded for": lambda patch: patch.setattr(
        visitors.VisitorList, "clear", _clears_too_little(lambda home: Remember(home, None))
    ),
    "a visitor who left comes back with a restart": lambda patch: patch.setattr(
        visitors.VisitorList, "clear", _clears_too_little(ClearVisitor)
    ),
    "a denial makes a visitor": lambda patch: patch.setattr(foreign_agent, "accepted", lambda code: True),
    "an overtaken reply makes a visitor": lambda patch: patch.setattr(
        pending.PendingList, "overtake", _nothing
    ),
    "a registration outlives its lifetime": lambda patch: patch.setattr(
        registrar.Registrar, "_expired", _nothing
    ),
    "a registration is not renewed": lambda patch: patch.setattr(movement.Movement, "renew", _nothing),
    "a clock is never corrected": lambda patch: patch.setattr(replay.Stamper, "replied", _nothing),
}


def _renewed(make):
    return classmethod(lambda cls, *arguments: replace(make(*arguments), since=arguments[-1]))


def _retaining(add):
    return lambda table, home_address, binding, retain: add(table, home_address, binding, retain=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_core_shows(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[fault](monkeypatch)
    with pytest.raises(AssertionError):
        for seed in range(6):
            world = build(Layout(6, lifetimes=(60, 120)), seed, replace(BAD, duplication=0.3, late=0.1))
            come_to_rest(world, live(world, hours=0.5, stay=90.0, pause=15.0, checks=10.0))
