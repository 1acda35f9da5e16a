"""What sessions of tests own in the engine, and what becomes of it when they are killed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from plugin_world import IMAGE, MOBILE, SMALL

from testbed.engine import names
from testbed.engine.api import ContainerSpec, NetworkSpec
from testbed.engine.fake import FakeEngine
from testbed.engine.labelled import labelled
from testbed.lab import leftovers
from testbed.lab.addresses import DEFAULT_POOL
from testbed.lab.down import remove_labs
from testbed.lab.leftovers import Owner, remove_dead, remove_session
from testbed.lab.lock import lab_lock
from testbed.lab.processes import Process
from testbed.lab.up import bring_up
from testbed.pytest_plugin.pool import Pool
from testbed.topology.load import load_topology
from testbed.topology.loaded import LoadedTopology

HERE = Process.here()
DEAD = replace(HERE, start="1")
"""A process that had this one's id before."""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that a test may kill."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_process_is_known_again() -> None:
    assert Process.parse(str(HERE)) == HERE == Process.here()
    assert not HERE.dead and DEAD.dead
    assert Process.parse("") is Process.parse("a b c d e") is Process.parse("somebody else") is None


def test_a_killed_process_is_dead_before_anybody_has_buried_it(child: subprocess.Popen[bytes]) -> None:
    process = Process.here(child.pid)
    assert not process.dead
    child.kill()
    deadline = time.monotonic() + 20
    while not process.dead and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.dead and child.returncode is None
    child.wait()
    assert process.dead


def test_nothing_is_known_of_processes_elsewhere_and_none_outlives_its_boot() -> None:
    assert not replace(DEAD, host="elsewhere").dead
    assert not replace(DEAD, space="pid:[1]").dead
    assert replace(HERE, boot="before").dead


def test_an_owner_is_read_from_its_label() -> None:
    owner = Owner(DEAD, HERE)
    assert Owner.parse(owner.label) == owner and owner.orphaned
    assert not Owner(HERE, HERE).orphaned and not Owner(DEAD, DEAD).orphaned
    assert Owner.parse("") is Owner.parse("x;y") is Owner.parse(str(HERE)) is None


def make(engine: FakeEngine, lab: str, owner: str, topology: LoadedTopology) -> None:
    theirs = labelled(engine, {names.SESSION: owner})
    bring_up(theirs, topology, lab=lab, image=IMAGE, pool=DEFAULT_POOL)
    subnet = IPv4Network((int(IPv4Network("192.168.0.0/16")[0]) + 16 * len(engine.network_specs), 28))
    theirs.create_network(NetworkSpec(f"{lab}-beside", subnet, {}))
    theirs.create_container(ContainerSpec(f"{lab}-alone", "x", IMAGE, {}, (), b""))


def left(engine: FakeEngine) -> set[str]:
    specs = [box.spec for box in engine.boxes.values()] + [*engine.network_specs.values()]
    return {spec.labels.get(names.LAB) or spec.name for spec in specs}


@pytest.fixture
def small(tmp_path: Path) -> LoadedTopology:
    (tmp_path / "small.yaml").write_text(SMALL)
    return load_topology(str(tmp_path / "small.yaml"))


@pytest.fixture
def mobile(tmp_path: Path) -> Callable[..., LoadedTopology]:
    (tmp_path / "plain.yaml").write_text(MOBILE)
    return lambda *sets: load_topology(str(tmp_path / "plain.yaml"), sets=sets)


def test_the_next_start_removes_what_dead_sessions_left_and_nothing_else(
    engine: FakeEngine, small: LoadedTopology
) -> None:
    elsewhere = replace(DEAD, host="elsewhere")
    make(engine, "dead", Owner(DEAD, DEAD).label, small)
    make(engine, "living", Owner(HERE, HERE).label, small)
    make(engine, "elsewhere", Owner(elsewhere, elsewhere).label, small)
    make(engine, "another", "of nobody", small)
    bring_up(engine, small, lab="mine", image=IMAGE, pool=DEFAULT_POOL)
    assert remove_dead(engine) == []
    others = ("living", "elsewhere", "another")
    assert left(engine) == {*others, *(f"{x}-{y}" for x in others for y in ("beside", "alone")), "mine"}
    assert remove_session(engine, HERE) == []
    assert not {"living", "living-beside", "living-alone"} & left(engine)
    assert "elsewhere" in left(engine)


def test_a_worker_that_goes_on_without_its_session_is_waited_for(
    engine: FakeEngine, small: LoadedTopology, child: subprocess.Popen[bytes]
) -> None:
    owner = Owner(DEAD, Process.here(child.pid))
    make(engine, "first", owner.label, small)

    def go_on() -> None:
        while left(engine):
            time.sleep(0.01)
        make(engine, "second", owner.label, small)
        child.kill()

    worker = threading.Thread(target=go_on)
    worker.start()
    assert remove_dead(engine) == []
    worker.join()
    assert remove_dead(engine) == [] and not left(engine)


def test_waiting_has_an_end_and_what_cannot_be_removed_is_said(
    engine: FakeEngine, small: LoadedTopology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_PATIENCE", 0.0)
    monkeypatch.setattr(leftovers, "remove_labs", partial(remove_labs, patience=0.0))
    make(engine, "held", Owner(DEAD, HERE).label, small)
    with lab_lock("held", engine.address):  # its worker is at it
        assert remove_dead(engine) == []
    assert "held" in left(engine)
    engine.failures["remove_network"] = lambda name: leftovers.EngineError("the engine has miscounted")
    (problem,) = remove_dead(engine)
    assert "could not remove" in problem and "miscounted" in problem


# The labs of a session


@pytest.fixture
def pool(engine: FakeEngine, tmp_path: Path) -> Callable[[], Pool]:
    """One process of a session."""

    def made(jobs: int = 1) -> Pool:
        return Pool(
            tmp_path / "session", Owner(HERE, HERE), jobs=jobs, evidence=lambda: tmp_path / "evidence"
        )

    return made


def test_processes_of_a_session_share_its_labs(
    pool: Callable[[], Pool], small: LoadedTopology, engine: FakeEngine
) -> None:
    first, second = pool(), pool()
    lab = first.take(small)
    taken: list[str] = []

    def take() -> None:
        with second.lend(small) as access:
            taken.append(access.name)

    other = threading.Thread(target=take)
    other.start()
    time.sleep(0.3)
    assert not taken  # it waits
    first.give_back(lab)
    other.join(20)
    assert taken == [lab.name]
    assert engine.calls["create_container"] == 3
    first.close()
    assert not left(engine)


def test_a_process_that_has_a_lab_waits_for_no_other(pool: Callable[[], Pool], small: LoadedTopology) -> None:
    """Else two of them could wait for each other."""
    first, second = pool(), pool()
    labs = [first.take(small), first.take(small)]
    taken: list[str] = []
    other = threading.Thread(target=lambda: taken.append(second.take(small).name))
    other.start()
    for lab in reversed(labs):
        first.give_back(lab)
    other.join(20)
    assert len({lab.name for lab in labs}) == 2 and taken == [labs[0].name]
    second.close()


def test_a_worker_without_its_session_stops_waiting(pool: Callable[[], Pool], small: LoadedTopology) -> None:
    first, second = pool(), pool()
    lab = first.take(small)
    second.owner = Owner(DEAD, HERE)
    with pytest.raises(KeyboardInterrupt):
        second.take(small)
    first.give_back(lab)


def test_only_mobile_nodes_are_replaced_in_a_lab_that_goes_on(
    pool: Callable[[], Pool], mobile: Callable[..., LoadedTopology], engine: FakeEngine
) -> None:
    mine = pool()
    with mine.lend(mobile()) as first:
        pass
    with mine.lend(mobile("option.attach=hotel", "network.internet.delay=20ms")) as second:
        pass
    assert second.name == first.name and engine.calls["create_container"] == 6 + 1
    with mine.lend(mobile("node.ha.gre=false")) as third:
        pass
    assert third.name != first.name and left(engine) == {third.name}
    mine.close()


def test_what_a_killed_test_left_is_mended(
    pool: Callable[[], Pool], small: LoadedTopology, engine: FakeEngine
) -> None:
    first, second = pool(), pool()
    lab = first.take(small)
    first._slots[lab].close()  # the kernel does that, and nobody gives the lab back
    before = engine.calls["execute"]
    with second.lend(small) as access:
        assert access.name == lab.name
        assert engine.calls["execute"] >= before + 3  # each node was compared
    second.close()
