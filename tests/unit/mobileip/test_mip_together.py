"""All three back to back, over good networks and bad ones, for seconds and for years."""

from __future__ import annotations

import ast
import sys
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mip_world import (
    CARE_OF,
    EPOCH,
    FA_ADDRESS,
    FA_CARE_OF,
    HOME_ADDRESS,
    HOME_AGENT,
    A,
    World,
    association,
    clock,
    foreign_agent_config,
    home_agent_config,
    mobile_node_config,
)

import testbed.mobileip
from testbed.mobileip.core.api import GratuitousArp
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile.effects import UseHome
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.core.parameters import Advertising


def two_agents() -> list[ForeignAgent]:
    other = foreign_agent_config(interface="office", address=A("10.0.5.1"), care_of=A("10.0.5.1"))
    return [
        ForeignAgent(foreign_agent_config(), clock, Random(5)),
        ForeignAgent(other, clock, Random(6)),
    ]


def test_a_walk_through_all_kinds_of_networks():
    world = World(fas=two_agents())
    world.attach("hotel", CARE_OF)
    world.run(0.1)
    assert world.bindings == {HOME_ADDRESS: (CARE_OF,)} and world.reachable()
    assert world.proxied == {HOME_ADDRESS}
    world.discover("visited")
    world.run(0.1)
    assert world.bindings == {HOME_ADDRESS: (FA_CARE_OF,)} and world.reachable()
    world.discover("office")
    world.run(0.1)
    assert world.bindings == {HOME_ADDRESS: (A("10.0.5.1"),)} and world.reachable()
    world.discover("home")
    world.run(3.0)
    assert world.bindings == {} and world.proxied == set() and world.reachable()
    assert isinstance(world.use, UseHome)
    arps = [(core, each.link_address) for _, core, each in world.log if isinstance(each, GratuitousArp)]
    assert (world.mn, None) in arps and (world.ha, b"\x02\0\0\0\0\x01") in arps
    world.attach("hotel", CARE_OF)
    world.run(0.1)
    assert world.reachable() and world.mn.state(world.now)["state"] == "registered"


def test_a_hand_off_needs_one_round_trip():
    world = World()
    world.discover("visited")
    world.run(0.0061)  # solicitation, advertisement, request, relayed request, reply, relayed reply
    assert world.reachable()


def test_a_registration_lasts_for_years():
    """Beyond 2036, when the timestamps' seconds begin anew, and 2038, when 31 bits of Unix time are full."""
    world = World(
        mn=MobileNode(mobile_node_config(lifetime=0xFFFE), clock, Random(1)),
        ha=HomeAgent(home_agent_config(lifetime=0xFFFE, advertising=None), clock),
        fas=[],
    )
    world.attach("hotel", CARE_OF)
    for _ in range(12 * 2):
        world.run(365.25 * 86400 / 2)
        assert world.reachable()
    assert world.mn.counters["registrations-expired"] == 0
    assert world.ha.counters["bindings-expired"] == 0
    assert EPOCH + world.now > max(2085978496, 2**31) + 86400  # the first: the seventh of February 2036
    assert not [name for name in world.ha.counters if name.startswith("denied")]


@pytest.mark.parametrize(
    ("network", "lifetime", "often"),
    [("hotel", 5, 300), ("hotel", 30, 390), ("visited", 5, 150), ("visited", 30, 330)],
)
def test_an_hour_over_a_bad_network(network, lifetime, often):
    """A fifth lost, a tenth repeated, all reordered: bindings may lapse, but always come back.

    Through the foreign agent four messages in a row have to arrive, within the short lifetime.
    """
    world = World(
        mn=MobileNode(mobile_node_config(lifetime=lifetime), clock, Random(3)),
        ha=HomeAgent(home_agent_config(advertising=None), clock),
        seed=lifetime,
    )
    world.loss, world.duplication = 0.2, 0.1
    world.delay = lambda: world.rng.uniform(0.001, 0.4)
    if network == "hotel":
        world.attach(network, CARE_OF)
    else:
        world.discover(network)
    up = 0
    for _ in range(400):
        world.run(3.0)
        up += world.reachable()
    assert up > often
    gaps = [
        b - a for a, b in pairwise(when for when, core, e in world.log if core is world.mn and _request(e))
    ]
    assert min(gaps) >= 0.999  # §3.6.3
    world.loss = world.duplication = 0.0
    world.delay = lambda: 0.001
    world.run(130.0)
    assert world.reachable()


def _request(effect) -> bool:
    return hasattr(effect, "datagram")


@given(
    moves=st.lists(
        st.tuples(st.sampled_from(["hotel", "airport", "visited", "office", "home", "nowhere"]),
                  st.floats(0, 20)),
        min_size=1, max_size=8,
    ),
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.3]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_wherever_it_goes_it_ends_up_reachable(moves, seed, loss):
    world = World(fas=two_agents(), seed=seed)
    world.duplication = 0.2
    world.delay = lambda: world.rng.uniform(0.001, 0.1)
    world.loss = loss
    for network, stay in [*moves, ("visited", 0.0)]:
        if network in ("hotel", "airport"):
            world.attach(network, CARE_OF if network == "hotel" else A("198.51.100.130"))
        else:
            world.discover(network)
        world.run(stay)
    world.loss = 0.0
    world.run(140.0)
    assert world.reachable()
    assert world.bindings[HOME_ADDRESS] == (FA_CARE_OF,)
    world.discover("home")
    world.run(140.0)
    assert world.reachable() and world.bindings == {} and world.proxied == set()


def test_a_clock_that_is_wrong_by_years_costs_one_second():
    late = MobileNode(mobile_node_config(), lambda now: now, Random(1))  # it is 1970
    world = World(mn=late)
    world.attach("hotel", CARE_OF)
    world.run(0.9)
    assert not world.reachable()
    world.run(0.2)
    assert world.reachable() and world.ha.counters["denied-133"] == 1


def test_a_home_agent_that_lost_its_memory_is_told_again():
    world = World(mn=MobileNode(mobile_node_config(lifetime=60), clock, Random(1)))
    world.attach("hotel", CARE_OF)
    world.run(10.0)
    world.ha = HomeAgent(home_agent_config(), clock)
    world.bindings.clear()
    world.proxied.clear()
    world.run(60.0)
    assert world.reachable()


def test_a_foreign_agent_that_reboots_is_registered_with_again():
    world = World()
    world.discover("visited")
    world.run(400.0)
    world.fas = [ForeignAgent(foreign_agent_config(), clock, Random(7))]
    world.visitors.clear()
    world.run(1.5)
    assert world.reachable()


def test_an_agent_not_heard_any_more_is_given_up_after_its_lifetime():
    world = World(fas=two_agents())
    world.discover("visited")
    world.run(10.0)
    world.silent.add("visited")
    world.run(3.1)
    state = world.mn.state(world.now)
    assert state["state"] == "discovering" and state["agent"] is None
    world.silent.clear()
    world.run(6.0)
    assert world.mn.state(world.now)["state"] == "registered"


def test_an_agent_that_required_registration_and_is_gone_is_not_asked_any_more():
    """With a care-of address of its own a mobile node needs no agent (§2.4.1)."""
    world = World()
    world.attach("visited", CARE_OF)
    world.run(2.0)
    assert world.visitors.keys() == {HOME_ADDRESS} and world.mn.state(world.now)["agent"] == str(FA_ADDRESS)
    world.fas = []
    world.run(1500.0)
    assert world.reachable() and world.mn.counters["registrations-expired"] == 0
    assert world.mn.state(world.now)["agent"] is None
    world.fas = [ForeignAgent(foreign_agent_config(), clock, Random(7))]
    world.visitors.clear()
    world.run(2.0)
    assert world.visitors.keys() == {HOME_ADDRESS} and world.reachable()
    world.run(4.0)
    world.fas = [ForeignAgent(foreign_agent_config(), clock, Random(8))]  # it reboots without its memory
    world.visitors.clear()
    world.run(2.0)
    assert world.visitors.keys() == {HOME_ADDRESS} and world.reachable()


def test_a_node_gives_its_registration_back_where_the_agent_it_went_through_is_gone():
    world = World()
    world.attach("visited", CARE_OF)
    world.run(2.0)
    world.fas = []
    world.mn.deregister(world.now)
    world.run(10.0)
    assert world.bindings == {} and world.mn.state(world.now)["state"] == "deregistered"
    asked = world.mn.counters["requests-sent"]
    world.run(200.0)
    assert world.mn.counters["requests-sent"] == asked


def test_everybody_proves_himself_to_everybody():
    mn_fa = association(HOME_ADDRESS, 500, b"mobile and foreign")
    fa_ha = association(HOME_AGENT, 600, b"foreign and home")
    world = World(
        mn=MobileNode(
            mobile_node_config(foreign_agents=(association(A("192.0.2.1"), 500, b"mobile and foreign"),)),
            clock,
        ),
        ha=HomeAgent(
            home_agent_config(foreign_agents=(association(FA_CARE_OF, 600, b"foreign and home"),)), clock
        ),
        fas=[ForeignAgent(foreign_agent_config(mobile_nodes=(mn_fa,), home_agents=(fa_ha,)), clock)],
    )
    world.discover("visited")
    world.run(2.0)
    assert world.reachable()
    world.mn.deregister(world.now)
    world.run(1.0)
    assert world.bindings == {} and world.visitors == {}
    assert not any(
        "authentica" in name for core in (world.mn, world.ha, *world.fas) for name in core.counters
    )


def test_a_wrong_key_never_gets_through_and_never_gets_rude():
    wrong = MobileNode(mobile_node_config(security=association(HOME_AGENT, key=b"wrong")), clock)
    world = World(mn=wrong)
    world.discover("visited")
    world.run(300.0)
    assert not world.reachable() and world.bindings == {} and world.visitors == {}
    assert world.mn.counters["requests-sent"] < 12
    assert world.ha.counters["denied-131"] > 5


def test_a_fast_link_with_short_advertisements():
    fast = foreign_agent_config(advertising=Advertising(0.1, 1))
    world = World(fas=[ForeignAgent(fast, clock, Random(1))])
    world.discover("visited")
    world.run(60.0)
    assert world.reachable() and world.mn.counters["requests-sent"] == 1


FORBIDDEN = {"socket", "time", "asyncio", "select", "threading", "os", "subprocess", "datetime", "ctypes"}


def test_the_cores_know_no_clock_and_no_socket():
    """Nor anything but the standard library and one another."""
    root = Path(testbed.mobileip.__file__).parent
    files = [*root.glob("core/*.py"), *root.glob("wire/*.py"), root / "__init__.py"]
    assert len(files) > 25
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                assert top not in FORBIDDEN, f"{file} imports {name}"
                assert top in sys.stdlib_module_names or name.startswith(
                    ("testbed.mobileip.core", "testbed.mobileip.wire")
                ), f"{file} imports {name}"
                assert not ("/wire/" in str(file) and ".core" in name), f"{file} imports {name}"
