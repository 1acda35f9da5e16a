"""What solutions change on nodes that they are to leave alone (RFC 4093 §5.1, §5.2)."""

from __future__ import annotations

import pytest

from testbed.render import Secrets, render_lab
from testbed.render.lab import REDACTED
from testbed.topology.load import load_topology

SECRETS = Secrets("psk", "0123456789abcdef" * 2)


def files(name, node, sets=()):
    """All but the names of other nodes, and what is for people."""
    lab = render_lab(load_topology(f"solutions/{name}", sets=sets), lab="lab", secrets=SECRETS)
    found = {path: file.content for path, file in lab.nodes[node].files.items()}
    del found["/etc/testbed/hosts"], found["/etc/motd"]
    return found


def changed(name, node, sets=()):
    before, after = files("nothing", node), files(name, node, sets)
    return {path for path in {*before, *after} if before.get(path) != after.get(path)}


@pytest.mark.parametrize(
    ("name", "gateway", "home_agent"),
    [
        ("dual-ha", set(), {"/etc/mobileip/home-agent.toml"}),
        ("mobike", {"/etc/strongswan.conf", "/etc/swanctl/swanctl.conf"}, set()),
        (
            "mip-mobike",
            {"/etc/strongswan.conf", "/etc/swanctl/swanctl.conf"},
            {"/etc/mobileip/home-agent.toml"},
        ),
    ],
)
def test_gateway_and_home_agent(name, gateway, home_agent):
    assert changed(name, "gw") == gateway
    assert changed(name, "ha") == home_agent
    assert changed(name, "fa-hotspot") == changed(name, "fa-office") == set()


def test_the_home_agent_outside_does_not_know_the_key_of_the_other():
    lab = render_lab(load_topology("solutions/dual-ha"), lab="lab", secrets=SECRETS)
    texts = {name: node.files["/etc/mobileip/home-agent.toml"].content for name, node in lab.nodes.items()
             if "home-agent" in node.functions}  # fmt: skip
    assert {name: SECRETS.mobility_key in text for name, text in texts.items()} == {"ha": True, "x-ha": False}
    assert {name: SECRETS.outer_key in text for name, text in texts.items()} == {"ha": False, "x-ha": True}


def test_no_key_is_shown_where_others_may_read():
    lab = render_lab(load_topology("solutions/dual-ha"), lab="lab", secrets=REDACTED)
    texts = [
        file.content
        for node in lab.nodes.values()
        for path, file in node.files.items()
        if "/mobileip/" in path
    ]
    assert {line for text in texts for line in text.splitlines() if line.startswith("key =")} == {
        'key = "<redacted>"'
    }


def test_what_is_inside_is_not_known_where_it_is_to_be_found_out():
    for name, knows in (("nothing", True), ("mobike", True), ("mip-mobike", False), ("dual-ha", False)):
        assert ("trusted = true" in files(name, "mn")["/etc/testbed/roam.toml"]) is knows


@pytest.mark.parametrize("plane", ["userspace.nft", "kernel.policies"])
def test_the_policy_lets_out_what_asks_and_the_tunnel_outside_alone(plane):
    path = f"/etc/testbed/esp/{plane}"
    only = {name: {*files(name, "mn")[path].splitlines()} - {*files("nothing", "mn")[path].splitlines()}
            for name in ("mobike", "mip-mobike", "dual-ha")}  # fmt: skip
    assert only["mobike"] == set()
    assert all("434" in line or "find out" in line for line in only["mip-mobike"])
    more = only["dual-ha"] - only["mip-mobike"]
    assert more and all("203.0.113.40" in line for line in more)


def test_the_daemon_outside_takes_nothing_of_the_one_inside():
    here = files("dual-ha", "mn")
    inside, outside = (here[f"/etc/mobileip/{one}.toml"] for one in ("mobile-node", "x-mobile-node"))
    for key in ("control", "device", "protocol", "table", "port"):
        values = [line for line in outside.splitlines() if line.startswith(f"{key} =")]
        assert len(values) == 1 and values[0] not in inside
