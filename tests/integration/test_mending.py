"""`up` and `set` on a lab that runs: what is broken is said and mended, what is impaired is so at once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import docker
import pytest
from command_line import command
from node_programs import execute

from testbed.engine.docker import DockerEngine
from testbed.lab.state import find_lab
from testbed.pytest_plugin import LabFactory

CLI = [sys.executable, "-c", "import sys; from testbed.cli import main; sys.exit(main())"]
Inside = Callable[[str, str], str]
GONE_WITHIN = 60.0
"""Seconds."""


def up(lab: str, *options: str) -> tuple[dict[str, Any], str]:
    done = command("up", "plain-mip", "--name", lab, "-o", "json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def inside(engine: DockerEngine, lab: str) -> Inside:
    """Runs a shell command in a node of the lab; what it printed."""

    def run(node: str, script: str) -> str:
        done = execute(engine, find_lab(engine, lab).nodes[node].id, "sh", "-c", script)
        assert done.returncode == 0, done
        return done.stdout

    return run


def fastest(inside: Inside, options: str = "-c 3 -i 0.02") -> float:
    """The shortest of some round trips across the hub, in ms."""
    said = inside("hotel-router", f"ping -n -q {options} ha || true")
    found = re.search(r"min/avg/max/mdev = ([\d.]+)/", said)
    assert found
    return float(found[1])


@pytest.fixture(scope="module")
def lab(testbed_lab: LabFactory) -> str:
    """Plain Mobile IP, up; the mobile node is registered through the hotspot's foreign agent.

    The setting, which is the default, makes it a lab of this module alone: nodes are removed in it.
    """
    lab = testbed_lab("plain-mip", "network.home.loss=0%")
    lab.changed = True  # by commands, as users type them
    moved = lab.move("mn", "hotspot")
    assert moved.state == "registered", moved
    return lab.name


BREAKS = {
    "links, routes, addresses and rules": [
        ("ha", "ip link set home down", "lost link home up"),
        ("ha", "ip link delete internet", "lost address 203.0.113.40/32 on internet"),
        ("fa-hotspot", "ip route delete default", "lost route default via 203.0.113.1"),
        ("cn", "ip address add 192.0.2.99/24 dev home", "added address 192.0.2.99/24 on home"),
        ("core", "nft flush ruleset", "lost nftables"),
    ],
    "a service that is stopped": [
        ("ha", "sv down /etc/testbed/services/home-agent", "starting home-agent again")
    ],
    "a service that is paused": [
        ("ha", "sv pause /etc/testbed/services/home-agent", "starting home-agent again")
    ],
}


@pytest.mark.parametrize("what", BREAKS)
def test_what_is_broken_is_said_and_mended(lab: str, inside: Inside, what: str) -> None:
    for node, script, _ in BREAKS[what]:
        inside(node, script)
    state, progress = up(lab)
    for node, _, said in BREAKS[what]:
        assert re.search(rf"^ *{node}: .*{re.escape(said)}", progress, re.MULTILINE), progress
    assert state["no_data"] == {} and state["nodes"]["mn"]["services"]["roam"]["state"] == "registered"
    assert " 0% packet loss" in inside("mn", "ping -n -c 2 -i 0.2 cn")
    again, progress = up(lab)
    assert (again["created"], again["mended"]) == (0, 0), progress


@pytest.mark.parametrize("end", ["kill", "remove", "pause"])
def test_a_home_agent_without_bindings_is_not_ready_before_it_has_them(
    engine: DockerEngine, lab: str, inside: Inside, end: str
) -> None:
    agent = find_lab(engine, lab).nodes["ha"].id
    getattr(docker.from_env().containers.get(agent), end)(**({"force": True} if end == "remove" else {}))
    state, progress = up(lab)
    assert "ha: missing" in progress if end == "remove" else "ha: does not run" in progress
    # On a busy machine something answers requests by Port Unreachable for a while, most likely the network
    # namespace of the former container, which the kernel has yet to remove.
    until = time.monotonic() + GONE_WITHIN
    while any("port-unreachable" in why for why in state["no_data"].values()) and time.monotonic() < until:
        state, _ = up(lab)
    assert state["no_data"] == {}
    assert " 0% packet loss" in inside("mn", "ping -n -c 2 -i 0.2 cn")


def test_another_delay_holds_at_once_and_no_packet_goes_past_it(
    engine: DockerEngine, lab: str, inside: Inside
) -> None:
    nodes = {name: each.id for name, each in find_lab(engine, lab).nodes.items()}
    for delay in (31, 7, 53):
        _, progress = up(lab, "--set", f"network.internet.delay={delay}ms")
        assert "network.internet.delay" in progress and f"→ {delay}ms" in progress
        assert fastest(inside) >= 2 * delay
    assert {name: each.id for name, each in find_lab(engine, lab).nodes.items()} == nodes


def test_set_holds_at_once_and_up_keeps_it_until_it_is_reset(lab: str, inside: Inside) -> None:
    assert command("set", lab, "network.internet.delay=23ms").returncode == 0
    assert fastest(inside) >= 46
    up(lab)
    assert fastest(inside) >= 46
    up(lab, "--reset")
    assert 20 <= fastest(inside, "-c 20 -i 0.02") < 46


def test_a_network_without_hub_needs_netem(lab: str) -> None:
    done = command("set", lab, "network.home.delay=5ms")
    if done.returncode == 0:
        assert "netem on home" in command("status", lab).stdout
        assert command("set", lab, "network.home.delay=0").returncode == 0
    else:
        assert done.returncode == 3
        assert "home has no hub" in done.stderr and "networks with a hub need none: internet" in done.stderr


def test_while_the_relay_is_dead_nothing_crosses_the_hub_undelayed(lab: str, inside: Inside) -> None:
    ping = subprocess.Popen(
        [*CLI, "exec", lab, "hotel-router", "--", "ping", "-n", "-i", "0.01", "-w", "3", "ha"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ping.stdout is not None and "PING" in ping.stdout.readline()
    time.sleep(0.5)  # some packets before; nothing depends on how many
    inside("core", "sv kill /etc/testbed/services/relay")
    times = [float(each) for each in re.findall(r"time=([\d.]+)", ping.communicate(timeout=60)[0])]
    assert times and min(times) >= 20


def test_what_is_edited_in_a_node_is_applied_shown_and_undone(lab: str, inside: Inside) -> None:
    file = "/etc/mobileip/home-agent.toml"
    assert command("diff", lab).returncode == 0
    inside("ha", f"sed -i 's/lifetime = 600/lifetime = 77/' {file}; ip rule add to 192.0.2.99 lookup 7")
    restarted = command("restart", lab, "ha", "home-agent", "-o", "json")
    assert restarted.returncode == 0, restarted.stderr
    assert json.loads(restarted.stdout)["services"]["home-agent"]["ready_after_s"] > 0
    assert command("move", lab, "mn", "hotspot").returncode == 0
    assert re.search(r"registered.*\(7\d s left", command("status", lab).stdout)
    shown = command("diff", lab, "ha")
    assert shown.returncode == 1
    changed = [line for line in shown.stdout.splitlines() if re.match(r"[-+](?![-+])", line)]
    assert changed[:2] == ["-lifetime = 600", "+lifetime = 77"]
    assert re.fullmatch(r"\+rule \d+: from all to 192\.0\.2\.99 lookup 7", changed[2]), changed
    inside("ha", f"echo lifetime = x >>{file}")
    broken = command("restart", lab, "ha")
    assert broken.returncode == 1 and f"{file}:" in broken.stderr
    assert command("reset", lab, "ha").returncode == 0
    assert command("diff", lab).returncode == 0
    assert " 0% packet loss" in inside("mn", "ping -n -c 2 -i 0.2 cn")


def test_rules_of_nftables_are_loaded_anew_or_stay(lab: str, inside: Inside) -> None:
    file = "/etc/nftables.d/hub.nft"
    inside("core", f"sed -i 's/icmp type redirect drop/icmp type redirect counter drop/' {file}")
    assert command("restart", lab, "core", "nftables").returncode == 0
    assert "redirect counter" in inside("core", "nft list table inet hub")
    inside("core", f"sed -i 's/counter drop/counted/' {file}")
    broken = command("restart", lab, "core", "nftables")
    assert broken.returncode == 1 and f"{file}:" in broken.stderr
    assert "redirect counter" in inside("core", "nft list table inet hub")
    assert command("reset", lab, "core").returncode == 0
    assert "counter" not in inside("core", "nft list table inet hub")
