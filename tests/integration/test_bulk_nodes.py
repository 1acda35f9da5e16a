"""Many mobile nodes in one node of a lab: they register, answer pings through their tunnels, and move."""

from __future__ import annotations

import json
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from command_line import command, data
from node_programs import execute

from testbed.engine.docker import DockerEngine
from testbed.pytest_plugin import Lab, LabFactory

COUNT = 60
FIRST = IPv4Address("10.64.0.10")


@pytest.fixture(scope="module")
def lab(testbed_lab: LabFactory) -> Lab:
    """The topology `bulk` with a small crowd, which has registered from the hotel."""
    lab = testbed_lab("bulk", f"node.crowd.count={COUNT}")
    lab.changed = True  # by commands, as users type them
    until = time.monotonic() + 20
    while crowd(lab)["registered"] < COUNT and time.monotonic() < until:
        time.sleep(0.2)
    return lab


def crowd(lab: Lab) -> dict[str, Any]:
    state: dict[str, Any] | None = lab.node("crowd").state()["bulk-nodes"]
    assert state is not None
    return state


def test_all_register_and_each_answers_through_its_tunnel(engine: DockerEngine, lab: Lab) -> None:
    assert crowd(lab)["networks"]["hotel"] == {"attached": COUNT, "registered": COUNT}
    agent = lab.node("ha-crowd").state()["home-agent"]
    assert agent is not None and agent["mobile_nodes"] == COUNT
    before = {way: agent["tunnel"][way] for way in ("encapsulated", "decapsulated")}
    for number in (0, 17, COUNT - 1):
        ping = execute(engine, lab.node("cn").container, "ping", "-c", "1", "-W", "5", f"{FIRST + number}")
        assert ping.returncode == 0, ping
    agent = lab.node("ha-crowd").state()["home-agent"]
    assert agent is not None
    assert all(agent["tunnel"][way] - count >= 3 for way, count in before.items())  # there and back
    nobody = execute(engine, lab.node("cn").container, "ping", "-c", "1", "-W", "1", f"{FIRST + COUNT}")
    assert nobody.returncode == 1


def test_each_has_a_state_of_its_own(lab: Lab) -> None:
    node, agent = data("status", lab.name, "--home", f"{FIRST + 17}")["reports"]
    state = node["state"]
    assert (state["state"], state["care_of"], state["interface"]) == ("registered", "100.64.0.18", "hotel")
    assert agent["node"] == "ha-crowd"
    assert agent["state"]["bindings"][0]["care_of_addresses"] == ["100.64.0.18"]
    none = command("status", lab.name, "--home", f"{FIRST + COUNT}")
    assert none.returncode == 2 and f"no crowd of lab {lab.name} has the home address" in none.stderr
    assert (
        f"{COUNT} of {COUNT} registered ({COUNT} of {COUNT} on hotel)" in command("status", lab.name).stdout
    )


def test_all_move_or_some(engine: DockerEngine, lab: Lab) -> None:
    moved = data("move", lab.name, "crowd", "airport")
    assert (moved["state"], moved["detail"]) == ("registered", f"{COUNT} of {COUNT} nodes registered")
    assert moved["registered"] == moved["nodes"] == COUNT <= moved["requests"]
    part = f"{FIRST + 10}-{FIRST + 14}"
    moved = data("move", lab.name, "crowd", "hotel", "--part", part, "--within", "500ms")
    assert (moved["nodes"], moved["homes"]) == (5, part.split("-")) and moved["ms"] >= 400
    registered = {name: each["registered"] for name, each in crowd(lab)["networks"].items()}
    assert registered == {"hotel": 5, "airport": COUNT - 5}
    assert (
        execute(engine, lab.node("cn").container, "ping", "-c", "1", "-W", "5", f"{FIRST + 11}").returncode
        == 0
    )
    wrong = command("move", lab.name, "crowd", "hotspot")
    assert wrong.returncode == 2 and "crowd has no network hotspot to attach to" in wrong.stderr
    wrong = command("move", lab.name, "crowd", "hotel", "--part", f"{FIRST + COUNT}")
    assert wrong.returncode == 1 and f"no mobile node has the home address {FIRST + COUNT}" in wrong.stderr


def test_moves_of_a_trace_overlap(lab: Lab, tmp_path: Path) -> None:
    (trace := tmp_path / "trace.csv").write_text(f"0,airport,,1s\n0.2,hotel,50%\n0.4,airport,{FIRST}\n")
    done = command("roam", lab.name, "crowd", "--trace", str(trace), "-o", "json")
    moved = {each["at"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert {at: (each["network"], each["nodes"]) for at, each in moved.items()} == {
        0.0: ("airport", COUNT), 0.2: ("hotel", COUNT // 2), 0.4: ("airport", 1),
    }  # fmt: skip
    assert {each["state"] for each in moved.values()} == {"registered"}, done.stdout
    registered = {name: each["registered"] for name, each in crowd(lab)["networks"].items()}
    assert registered == {"hotel": COUNT // 2 - 1, "airport": COUNT // 2 + 1}


def test_registrations_of_a_crowd_grow_linearly(lab: Lab) -> None:
    assert lab.verify("5.7-crowd").verdict == "reproduced"
