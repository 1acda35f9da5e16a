"""Simulations: what is counted follows from the protocol, and nothing depends on anything but the seed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from testbed.mobileip.core.mobile_node import MobileNode
from testbed.simulate.curves import Curve, curves
from testbed.simulate.gateway import ike_costs
from testbed.simulate.model import Constant, Model, Paths, Uniform
from testbed.simulate.network import VirtualNetwork
from testbed.simulate.run import Load, Outcome, simulate
from testbed.simulate.solutions import SOLUTIONS, Zone
from testbed.simulate.world import World

HOUR = 3600.0
LOSSY = Paths(Uniform(0.02, 0.2), loss=0.05)


def world(solution: str, nodes: int, **changes) -> World:
    return World(SOLUTIONS[solution], replace(Model(), **changes), nodes)


def all_move(made: World, site: str) -> None:
    for host in made.hosts:
        host.move(made.solution.site(site))


def renewals(lifetime: int, seconds: float) -> int:
    """How often it is renewed: a tenth of its lifetime before the end, 7 s at least, half at most."""
    margin = min(lifetime / 2, max(lifetime / 10, 7.0))
    return int(seconds // (lifetime - margin))


@pytest.mark.parametrize("lifetime", [10, 60, 600])
@pytest.mark.parametrize("site", ["hotel", "hotspot"])
def test_a_registration_and_its_renewals_are_two_messages_each(site, lifetime) -> None:
    made = world("plain-mip", 3, lifetime=lifetime, advertise=20)
    all_move(made, site)
    made.network.run(931.0)
    wanted = 2 * 3 * (1 + renewals(lifetime, 931.0))
    assert made.home_agents[0].tally.messages == wanted
    assert made.network.internet.messages == wanted
    assert made.mobile_nodes.messages == wanted
    assert made.foreign_agents[0].tally.messages == (2 * wanted if site == "hotspot" else 0)


@pytest.mark.parametrize(
    ("solution", "internet", "home_agent", "gateway", "outer"),
    [("plain-mip", 2, 2, 0, 0), ("nothing", 4, 2, 4, 0), ("trusted-fa", 4, 2, 4, 0), ("dual-ha", 3, 0, 0, 2)],
)
def test_what_a_move_takes(solution, internet, home_agent, gateway, outer) -> None:
    made = world(solution, 5)
    all_move(made, "hotel")
    made.network.run(10.0)
    before = counted(made)
    all_move(made, "airport")
    made.network.run(20.0)
    found = [now - earlier for now, earlier in zip(counted(made), before, strict=True)]
    assert found == [5 * each for each in (internet, home_agent, gateway, outer)]


def counted(made: World) -> list[int]:
    """At the Internet, the home agent inside, the gateway, and the home agent outside."""
    gateway = made.gateway.tally.messages if made.gateway is not None else 0
    outer = sum(agent.tally.messages for agent in made.home_agents[1:])
    return [made.network.internet.messages, made.home_agents[0].tally.messages, gateway, outer]


def test_nothing_but_ipsec_passes_the_gateway() -> None:
    made = world("nothing", 1)
    (host,) = made.hosts
    hotel = made.solution.site("hotel")
    made.network.move(host.daemon, hotel.name, hotel.address(0))  # registers in clear
    made.network.run(100.0)
    assert made.network.internet.messages > 5
    assert made.home_agents[0].tally.messages == 0


def test_the_outcome_depends_on_the_seed_alone() -> None:
    model = Model(duration=300.0, stay=100.0, lifetime=60, paths=LOSSY, restarts=("gw", "fa", "ha"))
    first, again, other = (
        simulate(SOLUTIONS["trusted-fa"], replace(model, seed=seed), 6) for seed in (1, 1, 2)
    )
    assert first == again != replace(other, seed=1)


@pytest.mark.parametrize("solution", SOLUTIONS)
def test_whatever_is_lost_all_are_registered_in_the_end(solution) -> None:
    made = world(solution, 12, paths=LOSSY)
    all_move(made, "hotel")
    made.network.run(100.0)
    whole = world(solution, 12)
    all_move(whole, "hotel")
    whole.network.run(100.0)
    assert made.network.internet.messages > whole.network.internet.messages
    for each in (made, whole):
        assert len(each.home_agents[0].core.state(each.network.now)["bindings"]) == 12


@pytest.mark.parametrize("solution", SOLUTIONS)
def test_what_a_solution_takes_is_linear(solution) -> None:
    model = Model(duration=300.0, attach=10.0, stay=60.0)
    outcomes = [
        simulate(SOLUTIONS[solution], replace(model, seed=seed), size)
        for size, seeds in ((2, 24), (8, 6), (32, 2))
        for seed in range(seeds)
    ]
    found = curves(outcomes)
    assert {curve.kind for curve in found} == {"messages", "bytes", "state"}
    for curve in found:
        if curve.name in ("ha", "internet", "mn"):
            assert curve.exponent == pytest.approx(1.0, abs=0.08), curve
            assert not curve.too_steep


def test_what_is_quadratic_is_found_out() -> None:
    """A toy: each mobile node has all of them register again."""
    outcomes = []
    for size in (1, 2, 4, 8):
        made = world("plain-mip", size)
        all_move(made, "hotel")
        made.network.run(10.0)
        before = made.home_agents[0].tally.messages
        for host in made.hosts:
            for other in made.hosts:
                made.network.at(10.0 + 5.0 * host.number, partial(renew, made.network, other))
        made.network.run(60.0)
        messages = made.home_agents[0].tally.messages - before
        outcomes.append(Outcome("toy", size, 1, {"ha": Load(messages, messages * 70)}, {}, size, []))
    (by_messages, by_bytes) = curves(outcomes)
    assert by_messages.exponent == pytest.approx(2.0)
    assert by_messages.too_steep and by_bytes.too_steep


def renew(network: VirtualNetwork, host) -> None:
    assert isinstance(host.daemon.core, MobileNode)
    host.daemon.core.renew(network.now)
    network.after(host.daemon)


def test_points_at_zero_and_lone_points_have_no_slope() -> None:
    def outcome(nodes: int, messages: int) -> Outcome:
        return Outcome("x", nodes, 1, {"ha": Load(messages, 0)}, {}, 0, [])

    (messages, octets) = curves([outcome(1, 0), outcome(10, 10), outcome(100, 100)])
    assert messages.exponent is None and octets.exponent is None
    assert not messages.too_steep
    (messages, _) = curves([outcome(1, 1), outcome(1, 3), outcome(2, 4), outcome(4, 8)])
    assert messages.points == ((1, 2.0), (2, 4.0), (4, 8.0))
    assert messages.exponent == pytest.approx(1.0)


def test_what_takes_long_is_not_too_steep() -> None:
    assert not Curve("x", "recovery", "ha", (), 3.0).too_steep


def test_what_an_agent_keeps_is_not_missed_and_what_it_lost_comes_back() -> None:
    model = Model(duration=300.0, stay=None, lifetime=300, restarts=("ha", "fa", "gw"))
    outcome = simulate(SOLUTIONS["trusted-fa"], model, 30)
    found = {(each.agent, each.kept): each for each in outcome.recovery}
    assert [*found] == [("ha", True), ("ha", False), ("fa", True), ("fa", False), ("gw", False)]
    for agent in ("ha", "fa"):
        assert (found[agent, True].lost, found[agent, True].seconds) == (0, pytest.approx(model.outage))
        assert found[agent, False].lost > 1
    assert model.outage < found["ha", False].seconds <= 271  # by then the last has renewed
    assert found["fa", False].seconds < 2.5  # by its first advertisement (RFC 5944 §2.4.4)
    patience = ike_costs().patience
    assert patience < found["gw", False].seconds < patience + ike_costs().dead_peer_detection + 1.0


def test_with_two_home_agents_a_dead_peer_is_found_out_later() -> None:
    model = Model(duration=300.0, stay=None, lifetime=600, restarts=("x-ha", "gw"))
    outcome = simulate(SOLUTIONS["dual-ha"], model, 20)
    found = {(each.agent, each.kept): each for each in outcome.recovery}
    assert [*found] == [("x-ha", True), ("x-ha", False), ("gw", False)]
    assert (found["x-ha", True].lost, found["x-ha", True].seconds) == (0, pytest.approx(model.outage))
    costs = ike_costs()
    for key in (("x-ha", False), ("gw", False)):
        assert found[key].lost == 20
        latest = costs.patience + costs.kept_dead_peer_detection + 1.0
        assert latest - costs.kept_dead_peer_detection / 2 < found[key].seconds < latest


def test_who_renews_before_a_dead_peer_is_found_out_negotiates_nothing() -> None:
    """The home agent outside knows the mobile node again, and the IKE SA has outlived its absence."""
    made = world("dual-ha", 5, lifetime=10)
    all_move(made, "hotel")
    made.network.run(20.0)
    assert made.gateway is not None
    before = made.gateway.tally.messages
    made.network.restart(made.home_agents[1])
    made.network.run(100.0)
    assert made.gateway.tally.messages == before
    model = Model(duration=30.0, attach=10.0, stay=None, lifetime=10, restarts=("x-ha",))
    recovery = simulate(SOLUTIONS["dual-ha"], model, 5).recovery[1]
    assert recovery.lost == 5 and recovery.seconds < ike_costs().patience


def test_a_gateway_that_does_not_answer_is_asked_in_vain() -> None:
    made = world("nothing", 1, paths=Paths(Constant(0.04), loss=1.0))
    all_move(made, "hotel")
    made.network.run(HOUR)
    assert made.network.internet.messages == 1 + ike_costs().tries
    assert made.gateway is not None and not made.gateway.associations


def test_a_move_amid_a_negotiation_ends_it() -> None:
    made = world("nothing", 1)
    all_move(made, "hotel")
    made.network.run(0.05)  # after the first exchange
    all_move(made, "campus")
    made.network.run(10.0)
    assert made.gateway is not None and not made.gateway.associations
    (binding,) = made.home_agents[0].core.state(made.network.now)["bindings"]
    assert binding["care_of_addresses"] == [str(made.solution.site("campus").address(0))]


def test_every_site_of_a_zone_has_addresses_of_its_own() -> None:
    for solution in SOLUTIONS.values():
        prefixes = [site.prefix for site in solution.sites]
        assert len({*prefixes}) == len(prefixes)
        assert solution.gateway == any(site.zone is Zone.INSIDE for site in (*solution.sites, solution.home))
