"""Golden files: a topology goes in, the files of every node come out, byte for byte.

After a wanted change, `UPDATE_GOLDEN=1 ./tb test tests/golden` writes them anew; read the diff first.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from testbed.errors import TopologyError
from testbed.render import Secrets, render_lab
from testbed.topology.load import builtin_topologies, load_topology

HERE = Path(__file__).parent
SECRETS = Secrets(ike_psk="sample-psk", mobility_key="000102030405060708090a0b0c0d0e0f")
TOPOLOGIES = list(builtin_topologies())


def rendered(name: str) -> dict[str, str]:
    lab = render_lab(load_topology(name), lab=name, secrets=SECRETS)
    files = {}
    for node in lab.nodes.values():
        summary = [f"ready {' '.join(node.ready)}", *(f"{k}={v}" for k, v in sorted(node.sysctls.items()))]
        files[f"{node.name}/sysctls"] = "\n".join(summary) + "\n"
        for path, file in node.files.items():
            files[f"{node.name}{path}"] = file.content
    return files


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_rendered_files(name: str) -> None:
    folder = HERE / name
    actual = rendered(name)
    if os.environ.get("UPDATE_GOLDEN"):
        shutil.rmtree(folder, ignore_errors=True)
        for path, content in actual.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
    expected = {
        str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()
    }
    assert expected, f"no golden files for {name}; write them with UPDATE_GOLDEN=1"
    assert sorted(actual) == sorted(expected)
    for path, content in actual.items():
        assert content == expected[path], path


def test_options_reach_the_files() -> None:
    lab = render_lab(
        load_topology("scenario-2.1", sets=["option.stack=mip-only", "network.internet.delay=40ms"]),
        lab="x",
        secrets=SECRETS,
    )
    assert 'stack = "mip-only"' in lab.nodes["mn"].files["/etc/testbed/roam.toml"].content
    assert "delay-ms = 40.0" in lab.nodes["core"].files["/etc/testbed/relay.toml"].content


def test_processes_of_a_home_agent() -> None:
    sets = ["node.ha-crowd.processes=4"]
    lab = render_lab(load_topology("bulk", sets=sets), lab="bulk", secrets=SECRETS)
    actual = lab.nodes["ha-crowd"].files["/etc/mobileip/home-agent.toml"].content
    expected = (HERE / "bulk/ha-crowd/etc/mobileip/home-agent.toml").read_text()
    address = 'address = "203.0.113.41"\n'
    assert actual == expected.replace(address, address + "processes = 4\n")


def test_without_an_option_attach_the_mobile_node_begins_on_its_first_network(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("""\
name: mine
title: The least with a mobile node
options: {stack: {default: mip-only}}
networks: {home: {subnet: 192.0.2.0/24, domain: internet}}
nodes:
  ha: {roles: [home-agent], links: {home: 192.0.2.2}, settings: {home-network: home}}
  mn: {roles: [mobile-node], attaches: [home], settings: {home-agent: ha, home-address: 192.0.2.9}}
""")
    lab = render_lab(load_topology(str(file)), lab="x", secrets=SECRETS)
    assert 'attach = "home"' in lab.nodes["mn"].files["/etc/testbed/roam.toml"].content


@pytest.mark.parametrize(
    ("template", "line", "message"),
    [
        ("port=0\nrange={{ node.settings.nonsense }}\n", 2, "no attribute 'nonsense'"),
        ("port=0\n{% if %}\n", 2, "template syntax"),
        ("{{ node.dhcp_pool.first + 'x' }}\n", 1, "unsupported operand"),
    ],
)
def test_a_bad_template_is_named_with_its_line(
    tmp_path: Path, template: str, line: int, message: str
) -> None:
    (tmp_path / "dhcp").mkdir()
    file = tmp_path / "dhcp" / "dnsmasq.conf.j2"
    file.write_text(template)
    with pytest.raises(TopologyError) as caught:
        render_lab(load_topology("plain-mip"), lab="x", secrets=SECRETS, templates=tmp_path)
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert message in str(caught.value)


def test_unmodified_routing_leaves_the_home_agent_alone() -> None:
    """§2.2: without it the home agent neither sends to the gateway first nor refuses plaintext."""
    adapted, unmodified = (
        render_lab(
            load_topology("scenario-2.2", sets=[f"option.routing={routing}"]), lab="x", secrets=SECRETS
        )
        for routing in ("adapted", "unmodified")
    )
    changed = {
        f"{name}{path}"
        for name, node in adapted.nodes.items()
        for path, file in node.files.items()
        if file != unmodified.nodes[name].files.get(path)
    }
    assert changed == {"ha/etc/testbed/policy-routes", "ha/etc/nftables.d/home-agent.nft"}
