"""A class of labs: up side by side, listed and removed by a pattern, refused where they have no room."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest
from lab_world import IMAGE, MIP, MOBILE, Run

from testbed.engine.api import EngineError
from testbed.engine.fake import FakeEngine
from testbed.engine.names import matches
from testbed.errors import MachineError
from testbed.lab import limits
from testbed.lab.limits import Needs, Room, check_room, free_memory, free_neighbours, needs
from testbed.topology.load import load_topology


def labs(engine: FakeEngine) -> list[str]:
    made = [*engine.boxes.values()]
    return sorted({box.spec.labels["org.testbed.lab"] for box in made})


def test_a_class_comes_up_and_goes(run: Run, engine: FakeEngine) -> None:
    run("up", MIP, "--name", "students")
    code, out, err = run("up", MIP, "--count", "3", "--name", "student")
    assert code == 0 and labs(engine) == ["student-1", "student-2", "student-3", "students"]
    rows = out.splitlines()
    assert [row.split()[:2] for row in rows[1:]] == [[f"student-{number}", "ready"] for number in (1, 2, 3)]
    assert all("mn: registered on hotspot" in row for row in rows[1:])
    assert "3 of 3 labs are up; testbed status 'student-*', testbed down 'student-*'" in err
    assert run("exec", "student-2", "mn", "--", "true")[0] == 0
    listed = run("status", "student-*")[1]
    assert listed.count("mn: registered on hotspot") == 3 and "students" not in listed
    found = json.loads(run("status", "student-*", "-o", "json")[1])["labs"]
    assert [one["mobile"]["mn"]["state"] for one in found] == ["registered"] * 3
    assert run("down", "student-*") == (0, "", "removed 18 nodes and 12 networks\n")
    assert labs(engine) == ["students"]
    code, _, err = run("down", "student-*")
    assert code == 1 and "there is no lab student-*" in err
    assert run("down", "student-*", "--if-exists")[0] == 0
    assert run("status", "student-*")[0] == 2


def test_again_it_changes_nothing(run: Run, engine: FakeEngine) -> None:
    run("up", MIP, "--count", "2")
    before = {*engine.boxes}
    out = run("up", MIP, "--count", "3", "-o", "json")[1]
    created = {one["lab"]: one["created"] for one in json.loads(out)["labs"]}
    assert created == {"plain-mip-1": 0, "plain-mip-2": 0, "plain-mip-3": 10} and before < {*engine.boxes}


@pytest.mark.parametrize("which", ["student-*", "--all"])
def test_others_labs_stay(which: str, run: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    run("up", MIP, "--name", "student-1")
    monkeypatch.setenv("TESTBED_OWNER", "somebody@else")
    run("up", MIP, "--name", "student-2")
    code, _, err = run("down", which)
    assert (
        code == 0
        and labs(engine) == ["student-1"]
        and "left because they are not known to be yours: student-1" in err
    )
    run("down", which, "--if-exists")
    assert labs(engine) == ["student-1"]
    assert run("down", "student-*", "--all-users")[0] == 0 and labs(engine) == []


def test_a_lab_that_fails_does_not_keep_the_others(run: Run, engine: FakeEngine) -> None:
    """Somebody else has a container of that name; the machine lacks nothing."""
    run("up", MIP, "--name", "student-2", "--set", "network.internet.delay=1ms")
    for box in engine.boxes.values():
        object.__setattr__(box.spec, "labels", {**box.spec.labels, "org.testbed.owner": "somebody@else"})
    code, out, err = run("up", MIP, "--count", "3", "--name", "student")
    states = [row.split()[:2] for row in out.splitlines()[1:]]
    assert states == [["student-1", "ready"], ["student-2", "failed"], ["student-3", "ready"]]
    assert (
        code == 2
        and "student-2: lab student-2 belongs to somebody@else" in err
        and "2 of 3 labs are up" in err
    )


def test_what_the_machine_lacks_ends_it(run: Run, engine: FakeEngine) -> None:
    engine.failures["create_container"] = lambda name: (
        EngineError("no space left on device") if "student-1-" in name else None
    )
    code, out, err = run("up", MIP, "--count", "9", "--name", "student")
    assert code == 3 and "student-1: no space left on device" in err
    assert "not tried" in out and "student-1" not in labs(engine)


def test_ctrl_c_leaves_nothing(run: Run, engine: FakeEngine) -> None:
    run("up", MIP, "--name", "student-2")
    kept = {*engine.boxes}
    begun = threading.Event()

    def interrupt(name: str) -> None:
        if "student-4-" in name and not begun.is_set():
            begun.set()
            os.kill(os.getpid(), signal.SIGINT)

    engine.failures["create_container"] = interrupt
    code, _, err = run("up", MIP, "--count", "9", "--name", "student")
    assert code == 130 and {*engine.boxes} == kept and "Traceback" not in err
    assert "removed what was made" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--count", "0"), "--count"),
        (("--count", "2", "--name", "Students"), "Students-1"),
        (("--count", "2", "--name", "a" * 39), "at most 40"),
    ],
)
def test_what_is_refused(run: Run, engine: FakeEngine, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = run("up", MIP, *arguments)
    assert code == 2 and words in err and not engine.boxes


def test_patterns() -> None:
    assert matches("student-1", "student-*") and not matches("students", "student-*")
    assert matches("student-1", "student-1") and not matches("student-10", "student-1")
    assert matches("student-1", "student-?") and matches("anything", None)


# What a class takes


@pytest.fixture
def mip(tmp_path: Path):  # type: ignore[no-untyped-def]
    (tmp_path / "mip.yaml").write_text(MOBILE)
    return load_topology(str(tmp_path / "mip.yaml")).topology


def test_what_a_lab_takes(mip) -> None:  # type: ignore[no-untyped-def]
    # internet: four nodes across a hub, home: two without, and the mobile node where it is; a quarter more.
    assert needs(mip) == Needs(addresses=4 * 8, neighbours=13, memory=6 * limits.NODE_MEMORY)


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (Room(100_000, 1000, 1 << 36), ""),
        (Room(100_000), ""),
        (Room(639, 1000, 1 << 36), "20 labs take some 640 addresses, and 639 are free, enough for 19"),
        (Room(100_000, 259, 1 << 36), "20 labs take some 260 entries, and 259 are free"),
        (Room(100_000, -5, 1 << 36), "and 0 are free, enough for"),
        (Room(100_000, 259, 1 << 36), "sysctl -w net.ipv4.neigh.default.gc_thresh3=8192"),
        (Room(100_000, 1000, 1 << 30), "memory has no room: 20 labs take some 1920 MiB, and 1024 are free"),
        (Room(1, 1, 1), "the memory has no room"),
    ],
)  # fmt: skip
def test_a_class_is_refused_before_anything_is_made(
    run: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, left: Room, words: str
) -> None:
    monkeypatch.setattr(limits, "room", lambda pool, networks: left)
    monkeypatch.setattr("platform.release", lambda: "6.1")  # as the engine's
    if not words:
        check_room(engine, load_topology(MIP).topology, None, (), 20)  # type: ignore[arg-type]
        return
    code, _, err = run("up", MIP, "--count", "20", "--name", "student")
    assert code == 3 and words in err and not engine.boxes and not engine.network_specs


def test_so_is_a_single_lab(run: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("up", MIP, "--name", "first")[0] == 0
    monkeypatch.setattr(limits, "room", lambda pool, networks: Room(100_000, 5, 1 << 36))
    assert run("up", MIP, "--name", "elsewhere")[0] == 0  # the engine has another kernel
    monkeypatch.setattr("platform.release", lambda: "6.1")
    code, _, err = run("up", MIP)
    assert code == 3 and "neighbour table has no room: a lab takes some 13 entries, and 5 are free\n" in err
    assert run("up", MIP, "--name", "first")[0] == 0  # what is up has its room


def test_what_the_kernel_says_of_itself(tmp_path: Path) -> None:
    for name, text in (
        ("net/stat/arp_cache", "entries  allocs\n0000002a  00000bbe\n0000002a  00000009\n"),
        ("sys/net/ipv4/neigh/default/gc_thresh3", "1024\n"),
        ("meminfo", "MemTotal:       24684084 kB\nMemAvailable:   19819244 kB\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_neighbours(tmp_path) == 1024 - 42
    assert free_memory(tmp_path) == 19819244 * 1024
    assert free_neighbours(tmp_path / "none") is None and free_memory(tmp_path / "none") is None


def test_a_bridge_has_so_many_ports(engine: FakeEngine, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "room", lambda pool, networks: Room(100_000))
    monkeypatch.setattr(limits, "BRIDGE_PORTS", 3)  # 1,023 nodes would be a long file
    code, _, err = run("up", MIP)
    assert code == 3 and "network internet has 4 nodes, and a bridge of the kernel takes 3\n" in err
    assert not engine.boxes and "bulk-nodes" in err
    monkeypatch.setattr(limits, "BRIDGE_PORTS", 4)
    assert run("up", MIP)[0] == 0


def test_errors_are_of_the_machine(engine: FakeEngine, mip, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(limits, "room", lambda pool, networks: Room(1, 1, 1))
    monkeypatch.setattr("platform.release", lambda: "6.1")
    with pytest.raises(Exception) as caught:
        check_room(engine, mip, None, ())  # type: ignore[arg-type]
    assert len(caught.value.errors) == 3  # type: ignore[attr-defined]
    assert all(isinstance(one, MachineError) for one in caught.value.errors)  # type: ignore[attr-defined]
    assert IMAGE in engine.images
