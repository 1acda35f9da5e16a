"""What each option of a simulation does, against numbers that follow from the option alone."""

from __future__ import annotations

import gc
from dataclasses import replace
from math import sqrt
from random import Random
from statistics import fmean

import pytest

from testbed.simulate import run
from testbed.simulate.model import Constant, Exponential, Model, Paths, Uniform
from testbed.simulate.run import simulate, work
from testbed.simulate.solutions import AIRPORT, HOTEL, SOLUTIONS
from testbed.simulate.world import World

QUIET = Model(duration=600.0, attach=60.0, stay=None, lifetime=65534, advertise=600)
"""Mobile nodes attach, and nothing else happens."""
AWAY = replace(SOLUTIONS["plain-mip"], sites=(HOTEL, AIRPORT))
"""Nobody goes home, where there is nothing to renew."""
SIGMAS = 4
"""Standard deviations by which a mean may be off; the seeds are fixed, so that it never varies."""


def registrations(model: Model, nodes: int) -> float:
    """How many there were, of all together."""
    return simulate(AWAY, model, nodes).load["ha"].messages / 2


def test_all_attach_within_the_time_and_evenly() -> None:
    nodes, model = 100, replace(QUIET, attach=100.0)
    assert registrations(model, nodes) == nodes
    half = registrations(replace(model, duration=50.0), nodes)
    assert half == pytest.approx(nodes / 2, abs=SIGMAS * sqrt(nodes / 4))


@pytest.mark.parametrize("stay", [60.0, 240.0])
def test_moves_are_as_many_as_the_stay_says(stay) -> None:
    nodes, model = 20, replace(QUIET, attach=0.0, stay=stay)
    moves = nodes * model.duration / stay
    assert registrations(model, nodes) - nodes == pytest.approx(moves, abs=SIGMAS * sqrt(moves))


@pytest.mark.parametrize("lifetime", [50, 600])
def test_renewals_are_as_many_as_the_lifetime_says(lifetime) -> None:
    """A registration is renewed when nine tenths of its lifetime are over."""
    model = replace(QUIET, attach=0.0, lifetime=lifetime, duration=1000.0)
    interval = lifetime - max(lifetime / 10, 7.0)
    assert registrations(model, 10) == 10 * (1 + 1000.0 // interval)


@pytest.mark.parametrize(
    ("rtt", "least", "most", "mean", "deviation"),
    [
        (Constant(0.04), 0.04, 0.04, 0.04, 0.0),
        (Uniform(0.02, 0.2), 0.02, 0.2, 0.11, 0.18 / sqrt(12)),
        (Exponential(0.02, 0.03), 0.02, float("inf"), 0.05, 0.03),
    ],
)
def test_round_trips_are_distributed_as_is_said(rtt, least, most, mean, deviation) -> None:
    rng, paths = Random(1), Paths(rtt)
    drawn = [2 * paths.delays(rng, True)[0] for _ in range(2000)]
    assert least <= min(drawn) and max(drawn) <= most
    assert fmean(drawn) == pytest.approx(mean, abs=SIGMAS * deviation / sqrt(2000) + 1e-9)


@pytest.mark.parametrize("rtt", [0.04, 0.3])
def test_a_registration_takes_a_round_trip(rtt) -> None:
    world = World(SOLUTIONS["plain-mip"], replace(QUIET, paths=Paths(Constant(rtt))), 1)
    (host,) = world.hosts
    host.move(world.solution.site("hotel"))
    world.network.run(0.99 * rtt)
    assert not registered(world)
    world.network.run(1.01 * rtt)
    assert registered(world)


def registered(world: World) -> object:
    return world.hosts[0].daemon.core.state(world.network.now)["registered"]


@pytest.mark.parametrize(("solution", "exchanges"), [("plain-mip", 1), ("nothing", 2)])
@pytest.mark.parametrize("loss", [0.05, 0.2])
def test_what_is_lost_is_sent_again(solution, exchanges, loss) -> None:
    """Each attempt needs that a request arrives and then its reply: (1 - p)² of them do."""
    nodes = 100
    world = World(SOLUTIONS[solution], replace(QUIET, paths=Paths(Constant(0.04), loss)), nodes)
    for host in world.hosts:
        host.move(world.solution.site("hotel"))
    world.network.run(600.0)
    success = (1 - loss) ** 2
    deviation = (2 - loss) * sqrt(exchanges * (1 - success)) / success
    wanted = exchanges * (2 - loss) / success
    assert world.network.internet.messages / nodes == pytest.approx(
        wanted, abs=SIGMAS * deviation / sqrt(nodes)
    )


@pytest.mark.parametrize("advertise", [20, 60])
def test_agents_advertise_as_often_as_is_said(advertise) -> None:
    """At most so far apart, and at least three quarters of that (RFC 1256 §6.2.1)."""
    world = World(SOLUTIONS["plain-mip"], replace(QUIET, advertise=advertise), 1)
    world.network.run(1200.0)
    agents = len(world.home_agents) + len(world.foreign_agents)
    least, most = (agents * 1200 / (share * advertise) for share in (1, 0.75))
    assert least <= world.network.discovery.messages <= most + 3 * agents  # the first three come sooner


@pytest.mark.parametrize("stay", [None, 100.0, 600.0])
def test_the_work_that_is_expected_is_about_that_which_comes(stay) -> None:
    model = replace(QUIET, stay=stay, lifetime=100)
    for duration in (30.0, 600.0):
        this = replace(model, duration=duration)
        assert registrations(this, 30) / 30 == pytest.approx(this.expected(duration), rel=0.2)
    assert work(model, 60) == pytest.approx(60 * model.expected(600.0), rel=0.1)


def test_progress_ends_where_the_work_does() -> None:
    seen: list[tuple[float, float]] = []
    model = replace(QUIET, restarts=("ha",), lifetime=60)
    simulate(SOLUTIONS["plain-mip"], model, 4, lambda now, work: seen.append((now, work)))
    assert seen == sorted(seen)
    assert seen[0] == (0.0, 0.0) and seen[-1][0] > model.duration
    assert seen[-1][1] == pytest.approx(work(model, 4))


@pytest.mark.parametrize("before", [True, False])
def test_the_garbage_collector_is_off_for_many_nodes_and_then_as_it_was(before, monkeypatch) -> None:
    seen: list[bool] = []
    was = gc.isenabled()
    (gc.enable if before else gc.disable)()
    try:
        for many in (5, 4):
            monkeypatch.setattr(run, "MANY", many)
            simulate(AWAY, QUIET, 4, lambda now, work: seen.append(gc.isenabled()))
            assert {*seen} == {before if many > 4 else False}
            assert gc.isenabled() == before
            seen.clear()
    finally:
        (gc.enable if was else gc.disable)()
