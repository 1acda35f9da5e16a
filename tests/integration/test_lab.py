"""Labs on a real engine: what `up` promises, what stays after every way of ending, two labs side by side."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from command_line import command, data
from node_programs import execute

from testbed.engine import names
from testbed.engine.docker import DockerEngine
from testbed.lab.addresses import choose_pool
from testbed.lab.daemons import ask
from testbed.lab.down import remove_labs
from testbed.lab.state import find_lab, read_labs
from testbed.lab.up import bring_up
from testbed.pytest_plugin import Lab, LabFactory
from testbed.topology.load import load_topology
from testbed.watch.feed import Feed

SMALL = Path(__file__).parents[1] / "projects/plugin/mine.yaml"  # two nodes
CLI = [sys.executable, "-c", "import sys; from testbed.cli import main; sys.exit(main())"]


def cli(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *arguments], input=stdin, capture_output=True, text=True, timeout=120)


def left_of(engine: DockerEngine, lab: str) -> list[str]:
    labels = {names.LAB: lab}
    return [each.name for each in (*engine.containers(labels), *engine.networks(labels))]


@pytest.fixture
def name(engine: DockerEngine) -> Iterator[str]:
    """A name for a lab that is gone afterwards."""
    name = f"test-{uuid4().hex[:8]}"
    yield name
    if left_of(engine, name):  # else the test has waited until nothing more could show up
        remove_labs(engine, name)


@pytest.fixture(scope="module")
def lab(testbed_lab: LabFactory) -> Lab:
    """Scenario 2.1, up; the mobile node is registered from the hotel."""
    lab = testbed_lab("scenario-2.1")
    lab.changed = True  # by commands, as users type them
    assert lab.move("mn", "hotel").state == "registered"
    return lab


def test_the_mobile_node_is_registered_through_the_gateway(lab: Lab) -> None:
    state = lab.node("mn").state()["roam"]
    assert state and (state["network"], state["state"]) == ("hotel", "registered"), state
    assert state["ipsec"]["up"], state
    agent = lab.node("ha").state()["home-agent"]
    assert agent and [binding["home_address"] for binding in agent["bindings"]] == ["10.0.1.100"]


def test_commands_in_nodes(lab: Lab) -> None:
    ping = cli("exec", lab.name, "mn", "--", "ping", "-c", "3", "-i", "0.2", "-I", "10.0.1.100", "cn")
    assert ping.returncode == 0 and " 0% packet loss" in ping.stdout, ping
    assert cli("exec", lab.name, "mn", "--", "sh", "-c", "exit 7").returncode == 7
    missing = cli("exec", lab.name, "mn", "--", "no-such-command")
    assert missing.returncode == 127 and "Traceback" not in missing.stderr
    assert cli("exec", lab.name, "gw", "--", "cat", stdin="through\n").stdout == "through\n"
    shell = cli("shell", lab.name, "gw", stdin="hostname\nexit 3\n")
    assert (shell.stdout, shell.returncode) == ("gw\n", 3)


def test_an_interrupted_command_ends_in_the_node_too(engine: DockerEngine, lab: Lab) -> None:
    ping = subprocess.Popen(
        [*CLI, "exec", lab.name, "mn", "--", "ping", "-i", "0.2", "gw"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ping.stdout is not None and "PING" in ping.stdout.readline()
    ping.send_signal(signal.SIGINT)
    out, _ = ping.communicate(timeout=20)
    assert ping.returncode == 130
    assert "packets transmitted" in out
    assert execute(engine, lab.node("mn").container, "pgrep", "-x", "ping").returncode == 1


def test_status_and_logs(lab: Lab, kernel: dict[str, str]) -> None:
    status = data("status", lab.name)
    assert status["running"] == len(status["nodes"]) == 11
    assert status["backends"]["core"]["relay"] in ("netem", "relay")
    plane = "userspace" if kernel["esp"] else "kernel"
    assert [status["backends"][node]["esp"] for node in ("gw", "mn")] == [plane, plane]
    assert status["backends"]["mn"]["mobile-node"]
    assert status["nodes"]["gw"]["links"] == {"internet": "203.0.113.2/32", "backbone": "10.0.0.1/24"}
    assert lab.name in [each["lab"] for each in data("status")["labs"]]
    logs = command("logs", lab.name, "mn", "gw", "-o", "json")
    lines = [json.loads(line) for line in logs.stdout.splitlines()]
    assert {line["node"] for line in lines} == {"mn", "gw"}
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert any(line.get("event") == "settled" for line in lines)


def test_moving_about(lab: Lab) -> None:
    for network, state in (("airport", "registered"), ("campus", "registered"), ("home", "at-home")):
        moved = data("move", lab.name, "mn", network)
        assert (moved["network"], moved["state"]) == (network, state), moved
        reached = [ms for ms in moved["timeline"].values() if ms is not None]
        assert reached == sorted(reached) and moved["timeline"]["data"] is not None, moved
    wrong = command("move", lab.name, "mn", "airprt")
    assert wrong.returncode == 2 and "did you mean airport?" in wrong.stderr


def test_a_whole_lab_is_captured_and_tshark_decrypts_it(lab: Lab, tmp_path: Path) -> None:
    """Keys of a lab that was brought up without a thought of that; tshark has the last word."""
    assert lab.move("mn", "hotel").state == "registered"
    file, tables = tmp_path / "all.pcapng", tmp_path / "all.wireshark"
    capture = subprocess.Popen(
        [*CLI, "capture", lab.name, "--no-routing", "--decrypt", "-w", str(file)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert capture.stderr is not None and "capturing at all nodes" in capture.stderr.readline()
    assert lab.move("mn", "airport").state == "registered"
    time.sleep(1.5)
    capture.send_signal(signal.SIGINT)
    said = capture.communicate(timeout=60)[1]
    assert capture.returncode == 0 and f"WIRESHARK_CONFIG_DIR={tables} wireshark {file}" in said

    def tshark(wanted: str, *fields: str) -> list[list[str]]:
        shown = [word for field in fields for word in ("-e", field)]
        command = ["tshark", "-r", str(file), "-Y", wanted, "-T", "fields", *shown]
        environment = os.environ | {"WIRESHARK_CONFIG_DIR": str(tables)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert "Error" not in done.stderr, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    requests = tshark("esp && mip.type == 1", "frame.comment", "mip.homeaddr")
    ways = ["airport mn→airport-router", "internet airport-router→core", "internet core→gw"]
    assert requests == [[way, "10.0.1.100"] for way in ways]
    assert all("esp:ip:" in protocols for (protocols,) in tshark("esp && !icmp.type == 3", "frame.protocols"))
    assert tshark("isakmp.exchangetype == 35 && isakmp.enc.decrypted", "frame.number")
    assert tshark("isakmp && isakmp.exchangetype != 34 && !isakmp.enc.decrypted", "frame.comment") == []
    times = [float(time) for (time,) in tshark("frame", "frame.time_epoch")]
    assert times == sorted(times)
    log = lab.exec("mn", "cat", "/run/testbed/strongswan.conf").text
    assert "chd = 4" not in log  # no further keys are logged


def test_a_live_picture_is_what_the_lab_is(engine: DockerEngine, lab: Lab) -> None:
    """It follows a move that comes from elsewhere, acts itself, and leaves nothing running in the nodes."""

    def running() -> list[str]:
        programs = ["pgrep", "-c", "-x", "tcpdump|ping"]
        return [lab.exec(node, *programs).text for node in ("mn", "gw", "ha")]

    assert lab.move("mn", "hotel").state == "registered"
    before = running()
    feed = Feed(engine, find_lab(engine, lab.name), lab.topology, every=0.2)
    news, mobile = feed.news, feed.news.picture.mobiles["mn"]

    def until(wanted: Callable[[], object]) -> None:
        with news.reading() as box:
            end = time.monotonic() + 20
            while not wanted():
                assert time.monotonic() < end, (news.picture.to_dict(time.monotonic()), box.problems)
                news.wait(box, 0.5)

    feed.start()
    try:
        until(lambda: mobile.registration == "registered" and any(mobile.echoes) and news.rows.rows)
        assert lab.move("mn", "airport").state == "registered"
        until(lambda: mobile.network == "airport" and mobile.handoff and mobile.handoff.state == "registered")
        (agent,) = (one for one in news.picture.agents.values() if one.node == "ha")
        assert [entry.name for entry in agent.entries] == ["10.0.1.100"]
        assert news.picture.associations["gw"][0].startswith("mn established")
        until(
            lambda: any("registration reply accepted" in repr(row.parts) for row in news.rows.rows.values())
        )
        assert feed.act("fail", "ha/home") == "failed: ha/home" and news.picture.failed == {"ha/home"}
        assert feed.act("heal", "ha/home") == "healed: ha/home" and not news.picture.failed
    finally:
        feed.stop()
    for _ in range(100):
        if running() == before:
            break
        time.sleep(0.1)
    assert running() == before, "a capture or a probe still runs in a node"


def test_a_link_fails_and_is_healed(lab: Lab) -> None:
    """Nothing passes, whoever sends it, and afterwards all is as it was."""
    there = ("r1", "ping", "-c", "2", "-i", "0.2", "-W", "1", "10.0.1.2")
    back = ("ha", "ping", "-c", "2", "-i", "0.2", "-W", "1", "10.0.1.1")
    routes = lab.exec("ha", "ip", "route", "show", "table", "all").text
    assert (lab.exec(*there).code, lab.exec(*back).code) == (0, 0)
    assert data("fail", lab.name, "ha/home")["failed"] == ["ha/home"]
    lost = lab.exec(*back)
    assert (lab.exec(*there).code, lost.code) == (1, 1)
    assert "No buffer space" not in lost.complaint  # whoever sends hears of no error
    assert data("status", lab.name)["nodes"]["ha"]["services"]["link to home"]["failed"]
    assert data("heal", lab.name)["healed"] == ["ha/home"]
    assert (lab.exec(*there).code, lab.exec(*back).code) == (0, 0)
    assert lab.exec("ha", "ip", "route", "show", "table", "all").text == routes


def test_up_again_is_a_no_op(engine: DockerEngine, lab: Lab, node_image: str) -> None:
    before = lab.actual
    again = bring_up(
        engine, load_topology("scenario-2.1"), lab=lab.name, image=node_image, pool=choose_pool()
    )
    assert not again.changed
    now = lab.actual
    assert {each.id for each in now.containers} == {each.id for each in before.containers}
    assert {each.id for each in now.networks} == {each.id for each in before.networks}


def test_two_labs_side_by_side(engine: DockerEngine, testbed_lab: LabFactory) -> None:
    """They have the same addresses, and one goes without the other."""
    lab, other = (testbed_lab(str(SMALL)) for _ in range(2))
    for each in (lab, other):
        assert each.move("mn", "away").state == "registered"
    for each in (lab, other):
        ping = each.exec("mn", "ping", "-c", "3", "-i", "0.2", "-I", "192.0.2.100", "192.0.2.1")
        assert " 0% packet loss" in ping.text, ping
    done = command("down", other.name)
    assert done.returncode == 0 and left_of(engine, other.name) == []
    assert lab.actual.nodes.keys() == lab.topology.nodes.keys()
    assert lab.exec("mn", "ping", "-c", "1", "-I", "192.0.2.100", "192.0.2.1").code == 0


def test_a_daemon_that_cannot_start_is_told_with_its_words(name: str, tmp_path: Any) -> None:
    """A role of one's own whose service fails at once."""
    roles = tmp_path / "roles"
    roles.mkdir()
    (roles / "broken.yaml").write_text(
        "name: broken\nsummary: Fails\nservices:\n"
        "  oops: {run: \"sh -c 'echo out of paper >&2; exit 9'\", ready: self}\n"
    )
    topology = tmp_path / "broken.yaml"
    topology.write_text(
        "name: broken\ntitle: A node that fails\n"
        "networks:\n  lan: {subnet: 10.0.0.0/24, domain: internet}\n"
        "nodes:\n  a: {roles: [broken], links: {lan: 10.0.0.1}}\n"
    )
    done = command("up", str(topology), "--name", name, "--templates", str(tmp_path))
    assert done.returncode == 1, done
    assert "service oops of node a ended (exit code 9)" in done.stderr
    assert "out of paper" in done.stderr and f"testbed down {name}" in done.stderr
    assert "Traceback" not in done.stderr


# However it ends


def start_up(name: str, topology: str = "plain-mip", *options: str) -> subprocess.Popen[str]:
    command = [*CLI, "up", topology, "--name", name, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("attempt", range(2))
def test_killed_at_a_random_moment_down_leaves_nothing(
    engine: DockerEngine, node_image: str, name: str, attempt: int
) -> None:
    up = start_up(name)
    time.sleep(random.uniform(0.3, 4.0))
    up.kill()
    up.communicate()
    done = command("down", name, "--if-exists")
    assert done.returncode == 0, done.stderr
    assert left_of(engine, name) == []


@pytest.mark.parametrize(("number", "after"), [(signal.SIGINT, 5), (signal.SIGTERM, 1)])
def test_interrupted_it_leaves_nothing(
    engine: DockerEngine, node_image: str, name: str, number: signal.Signals, after: int
) -> None:
    up = start_up(name)
    deadline = time.monotonic() + 120
    while len(left_of(engine, name)) < after and time.monotonic() < deadline:
        time.sleep(0.01)
    up.send_signal(number)
    _, err = up.communicate(timeout=120)
    assert up.returncode == 130, err
    assert "removed what was made" in err and "Traceback" not in err
    assert left_of(engine, name) == []


def test_two_ups_of_one_lab_at_once(engine: DockerEngine, node_image: str, name: str) -> None:
    processes = [start_up(name, str(SMALL), "--set", "option.attach=away") for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    codes = sorted(process.returncode for process in processes)
    assert codes in ([0, 2], [0, 0]), errors  # or the second came when the first was done
    if codes == [0, 2]:
        assert any("another testbed is changing lab" in error for error in errors)
    nodes = find_lab(engine, name).nodes
    assert nodes.keys() == load_topology(str(SMALL)).topology.nodes.keys()
    assert ask(engine, nodes["mn"], "roam", {"op": "state"})["state"] == "registered"


def test_no_trace_outside_the_engine(engine: DockerEngine, name: str, tmp_path: Any) -> None:
    home = tmp_path / "home"
    (home / ".cache").mkdir(parents=True)
    environment = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
    }
    for arguments in (("up", str(SMALL), "--name", name), ("status", name), ("down", name)):
        done = subprocess.run(
            [*CLI, *arguments], capture_output=True, text=True, cwd=home, env=environment, timeout=120
        )
        assert done.returncode == 0, done.stderr
    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert name not in read_labs(engine)
