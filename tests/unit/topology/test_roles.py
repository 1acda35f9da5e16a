from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from testbed.errors import ErrorGroup, ExitCode, TestbedError, TopologyError
from testbed.topology.load import load_topology
from testbed.topology.roles import builtin_roles, load_role, role_files

TOPOLOGY = """\
name: mine
title: A topology with roles of one's own
networks: {net: {subnet: 192.0.2.0/24, domain: internet}}
nodes:
  a: {roles: [probe, correspondent], links: {net: 192.0.2.1}, settings: {SETTINGS}}
"""


def role(templates: Path, name: str, text: str) -> Path:
    file = templates / "roles" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_builtin_manifests_are_valid() -> None:
    roles = builtin_roles()
    assert {"router", "home-agent", "foreign-agent", "mobile-node", "vpn-gateway"} <= set(roles)
    assert roles["home-agent"].files[0].mode == 0o600
    assert roles["router"].forwards


def test_what_manifests_run_of_the_testbed_exists() -> None:
    texts = "".join(file.read_text() for file in role_files().values())
    modules = set(re.findall(r"python3 -m (testbed[\w.]*)", texts))
    assert {"testbed.mobileip", "testbed.node.relay"} < modules
    assert [module for module in modules if importlib.util.find_spec(module) is None] == []


def test_a_role_of_ones_own_and_one_in_the_place_of_a_builtin(tmp_path: Path) -> None:
    role(
        tmp_path,
        "probe",
        "name: probe\nsummary: Mine\nforwards: true\nsettings:\n"
        "  every: {type: duration, default: 5ms}\n  mode: {type: enum, choices: [fast, slow]}\n"
        "  pool: {type: address-range, optional: true}\n  count: {type: int, default: 0}\n"
        "sysctls: {net.ipv4.tcp_syncookies: 0}\n"
        "files: [{template: a.j2, path: /etc/a, mode: 0o600}, {template: b.j2, path: /etc/b}]\n",
    )
    role(tmp_path, "correspondent", "name: correspondent\nsummary: Another vendor's\nimage: vendor/cn\n")
    file = tmp_path / "mine.yaml"
    file.write_text(TOPOLOGY.replace("{SETTINGS}", "{mode: fast, pool: 192.0.2.8-192.0.2.9}"))
    loaded = load_topology(str(file), templates=tmp_path)
    assert loaded.roles["correspondent"].image == "vendor/cn"
    (node,) = loaded.with_role("correspondent")
    assert loaded.image(node) == "vendor/cn"
    assert (
        load_topology(str(file), sets=["image.correspondent=b/cn"], templates=tmp_path).image(node) == "b/cn"
    )
    own = [f"node.{node}.image=c/cn", "image.correspondent=b/cn"]
    assert load_topology(str(file), sets=own, templates=tmp_path).image(node) == "c/cn"
    settings = loaded.settings["a"]
    assert (settings["every"], settings["mode"], settings["count"], len(settings["pool"])) == (
        5,
        "fast",
        0,
        2,
    )
    assert loaded.forwards("a")
    assert loaded.roles["probe"].sysctls == {"net.ipv4.tcp_syncookies": "0"}
    assert [spec.mode for spec in loaded.roles["probe"].files] == [0o600, 0o644]
    file.write_text(TOPOLOGY.replace("{SETTINGS}", "{mode: quick, count: 07}"))
    with pytest.raises(ErrorGroup) as caught:
        load_topology(str(file), templates=tmp_path)
    assert [error.message for error in caught.value.errors] == [
        "nodes.a.settings.mode: expected one of fast, slow, got quick",
        "nodes.a.settings.count: expected a whole number such as 100, got 07",
    ]


def test_roles_that_differ_in_a_setting(tmp_path: Path) -> None:
    role(tmp_path, "probe", "name: probe\nsummary: One\nsettings: {x: {type: int, default: 1}}\n")
    role(
        tmp_path,
        "correspondent",
        "name: correspondent\nsummary: Two\nsettings: {x: {type: bool, default: true}}\n",
    )
    file = tmp_path / "mine.yaml"
    file.write_text(TOPOLOGY.replace("{SETTINGS}", "{}"))
    with pytest.raises(TopologyError, match="setting x: int for probe, but bool for correspondent"):
        load_topology(str(file), templates=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: other\nsummary: x\n", "x.yaml:1:7: name: expected x, after the file, got other"),
        ("name: x\n", "x.yaml:1:1: `summary` is missing"),
        ("name: x\nsummary: x\nforwards: yes\n", "x.yaml:3:11: forwards: expected true or false, got yes"),
        (
            "name: x\nsummary: x\nsettings: {a: {type: number}}\n",
            "settings.a.type: expected network, node, address",
        ),
        (
            "name: x\nsummary: x\nsettings: {a: {type: enum}}\n",
            "settings.a: expected `choices` with the type enum",
        ),
        (
            "name: x\nsummary: x\nsettings: {a: {type: int, role: b}}\n",
            "expected `role` with the type node only",
        ),
        (
            "name: x\nsummary: x\nsettings: {a: {type: int, at-least: 3s}}\n",
            "expected `at-least` with the type duration only",
        ),
        (
            "name: x\nsummary: x\nsettings: {a: {type: duration, at-least: 3s, default: 2s}}\n",
            "expected a default that fits: 3s or longer",
        ),
        (
            "name: x\nsummary: x\nsettings: {a: {type: int, default: b}}\n",
            "expected a default that fits: a whole number",
        ),
        (
            "name: x\nsummary: x\nfiles: [{template: a, path: etc/a}]\n",
            "files[0].path: expected an absolute path",
        ),
        (
            "name: x\nsummary: x\nsettings: {a: {type: prefix, means: outside}}\n",
            "settings.a: expected the type network with `means: outside`, the untrusted link",
        ),
        (
            "name: x\nsummary: x\nsettings: {a: {type: network, means: outsid}}\n",
            "x.yaml:3:38: settings.a.means: expected one of home-address, home-agent, fallback-agents, ",
        ),
        (
            "name: x\nsummary: x\nservices: {s: {run: x, flush: [bindings]}}\n",
            "services.s: expected `state` and `flush` with `control` only",
        ),
        (
            "name: x\nsummary: x\nacts-as: [router, home-agnet]\n",
            "x.yaml:3:19: acts-as[1]: unknown role home-agnet\n  hint: did you mean home-agent?",
        ),
        (
            "name: x\nsummary: x\nacts-as: [vpn-gateway]\nsettings: {wan: {type: network, means: outside}}\n",
            "x.yaml:3:11: acts-as[0]: a vpn-gateway has a setting for what is reached through a VPN gateway, "
            "and x has none\n  hint: settings: {NAME: {type: prefix, means: protects}}",
        ),
        (
            "name: x\nsummary: x\nfiles: [{template: a, path: /../a}]\n",
            "files[0].path: expected an absolute path",
        ),
        (
            "name: x\nsummary: x\nfiles: [{template: a, path: /a, mode: 600}]\n",
            "files[0].mode: expected file permissions",
        ),
        ("name: x\nsummary: x\nservices: {s: {ready: self}}\n", "services.s: `run` is missing"),
        (
            "name: x\nsummary: x\ntopology_needs: [y]\n",
            "unknown key `topology_needs`\n  hint: did you mean topology-needs?",
        ),
        (
            "name: x\nsummary: x\nsysctls: {net.a: true}\n",
            "sysctls.net.a: expected a whole number or text, got true",
        ),
    ],
)
def test_bad_manifests(tmp_path: Path, text: str, message: str) -> None:
    file = role(tmp_path, "x", text)
    with pytest.raises(TestbedError) as caught:
        load_role(file, role_files(tmp_path))
    assert message in str(caught.value)
    assert caught.value.exit_code == ExitCode.TOPOLOGY
