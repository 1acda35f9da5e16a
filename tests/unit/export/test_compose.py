"""What `testbed export` writes: a Compose project by the published schema, with all that a node needs."""

import stat
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import plain_yaml
import pytest

from testbed.cli import main
from testbed.engine.image import node_image_name
from testbed.topology.load import builtin_topologies, load_topology


@pytest.fixture
def export(tmp_path):
    def run(name, *options):
        folder = tmp_path / name.replace("/", "-")
        assert main(["export", name, "-d", str(folder), *options]) == 0
        return folder, plain_yaml.load((folder / "compose.yaml").read_text())

    return run


@pytest.mark.parametrize("name", builtin_topologies())
def test_every_topology(export, name):
    folder, document = export(name)
    topology = load_topology(name)
    assert document["services"].keys() == topology.topology.nodes.keys()
    assert document["networks"].keys() == topology.topology.networks.keys()
    subnets = [IPv4Network(one["ipam"]["config"][0]["subnet"]) for one in document["networks"].values()]
    assert all(not a.overlaps(b) for a in subnets for b in subnets if a is not b)
    for node, service in document["services"].items():
        endpoints = (folder / f"nodes/{node}/etc/testbed/endpoints").read_text()
        assert dict(map(str.split, endpoints.splitlines())) == {
            one["ipv4_address"]: network for network, one in service["networks"].items()
        }
        for network, one in service["networks"].items():
            subnet = IPv4Network(document["networks"][network]["ipam"]["config"][0]["subnet"])
            assert IPv4Address(one["ipv4_address"]) in list(subnet.hosts())[1:]  # the first is the engine's


def test_it_is_what_the_schema_of_compose_says(export):
    folder, _ = export("scenario-2.1")
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, folder / "compose.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    text = (folder / "compose.yaml").read_text().replace("cap_drop", "drop_cap")
    (folder / "compose.yaml").write_text(text)
    assert subprocess.run([*command, folder / "compose.yaml"], capture_output=True).returncode == 1


def test_keys_are_the_lab_s_own_and_private_in_nodes(export, tmp_path):
    folder, document = export("scenario-2.1")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    secret = "/etc/swanctl/swanctl.conf"
    assert f"chmod go= {secret}" in document["services"]["gw"]["command"][-1].replace("  ", " ")
    text = (folder / f"nodes/gw{secret}").read_text()
    assert main(["export", "scenario-2.1", "-d", str(tmp_path / "again")]) == 0
    assert text != (tmp_path / f"again/nodes/gw{secret}").read_text()


def test_the_image_can_be_built_from_what_is_there(export):
    folder, document = export("plain-mip")
    assert {one["image"] for one in document["services"].values()} == {node_image_name()}
    recipe = (folder / "image/Dockerfile").read_text()
    assert recipe.count("FROM debian:trixie-slim AS base") == recipe.count("FROM base\n") == 1
    assert "${" not in recipe
    copied = [line.split()[1] for line in recipe.splitlines() if line.startswith("COPY")]
    assert copied and all((folder / "image" / name).exists() for name in copied)
    assert (folder / "image/python/testbed/mobileip/__main__.py").is_file()


def test_what_is_left_out_is_said(export, capsys):
    export("plain-mip", "--set", "network.hotel.delay=5ms")
    assert "left out: network hotel has no hub" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(export, tmp_path, capsys):
    (tmp_path / "plain-mip").mkdir()
    (tmp_path / "plain-mip" / "letter").touch()
    assert main(["export", "plain-mip", "-d", str(tmp_path / "plain-mip")]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["export", "plain-mip", "-d", str(tmp_path / "plain-mip" / "letter")]) == 2
    export("plain-mip", "--force")


def test_subnets_are_of_the_pool(export, capsys, tmp_path):
    _, document = export("plain-mip", "--pool", "10.99.0.0/24")
    pool = IPv4Network("10.99.0.0/24")
    for network in document["networks"].values():
        assert IPv4Network(network["ipam"]["config"][0]["subnet"]).subnet_of(pool)
    assert main(["export", "plain-mip", "-d", str(tmp_path / "x"), "--pool", "10.99.0.0/29"]) == 3
    assert "is left in the address pool" in capsys.readouterr().err and not (tmp_path / "x").exists()
