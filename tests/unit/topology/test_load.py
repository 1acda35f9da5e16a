from __future__ import annotations

import shutil
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from testbed.data import data_dir
from testbed.errors import ErrorGroup, ExitCode, Source, TestbedError, TopologyError, UsageError
from testbed.topology.load import builtin_name, builtin_topologies, find_topology, load_topology


@pytest.mark.parametrize("name", builtin_topologies())
def test_builtin_topologies_are_valid_and_named_after_their_files(name: str) -> None:
    loaded = load_topology(name)
    assert loaded.name == name.rpartition("/")[2]
    assert loaded.mobile_nodes
    assert loaded.topology.title and loaded.topology.source and loaded.topology.summary


def test_scenario_2_1() -> None:
    loaded = load_topology("scenario-2.1")
    assert loaded.options == {"stack": "mip-in-ipsec", "attach": "hotel", "esp": "auto"}
    assert loaded.settings["mn"]["home-address"] == IPv4Address("10.0.1.100")
    assert loaded.settings["mn"]["lifetime"] == 600_000
    assert loaded.settings["gw"]["protects"] == IPv4Network("10.0.0.0/8")
    assert loaded.settings["ha"]["virtual-home"] is None
    assert loaded.with_role("foreign-agent") == ("fa-hotspot", "fa-office")
    assert str(loaded.primary_address("mn")) == "10.0.1.100"
    assert str(loaded.primary_address("gw")) == "10.0.0.1"
    assert str(loaded.interface("core", "internet")) == "203.0.113.1/24"
    assert str(loaded.interface("gw", "internet")) == "203.0.113.2/32", (
        "all but the hub get a /32 on its network"
    )
    assert loaded.interface("mn", "hotel") is None
    assert loaded.forwards("core") and not loaded.forwards("cn")
    file = Path(loaded.file).parent / "shared/gateway.yaml"
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if text == "  gw:")
    assert loaded.source("nodes", "gw") == Source(str(file), line + 1, 5)


def test_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(data_dir("topologies") / "plain-mip.yaml", tmp_path / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    for ref in ("mine.yaml", "./mine.yaml", str(tmp_path / "mine.yaml")):
        assert load_topology(ref).file == ref
    (tmp_path / "scenario-2.1").mkdir()
    assert find_topology("scenario-2.1") == data_dir("topologies") / "scenario-2.1.yaml"


@pytest.mark.parametrize(
    ("ref", "message", "hint"),
    [
        ("plain-mpi", "no topology called plain-mpi", "did you mean plain-mip?"),
        ("./plain-mpi.yaml", "no such file: ./plain-mpi.yaml", "did you mean plain-mip?"),
        ("plain-mip.yaml", "no such file: plain-mip.yaml", "did you mean plain-mip?"),
        ("xyz", "no topology called xyz", "plain-mip, scenario-2.1"),
        ("folder", "folder is a directory", "name the topology file in it"),
        ("", ". is a directory", "name the topology file in it"),
        ("x" * 300, f"no topology called {'x' * 300}", "the built-in ones are"),
    ],
)
def test_what_is_not_there(
    ref: str, message: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError) as caught:
        load_topology(ref)
    assert caught.value.message == message
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == ExitCode.USAGE


def test_sets() -> None:
    loaded = load_topology(
        "scenario-2.1",
        sets=[
            "network.internet.delay=40ms",
            "networks.internet.rate=10mbit",
            "node.mn.lifetime=60s",
            "node.mn.settings.reverse-tunnel=false",
            "node.cn.links.servers=10.0.4.11",
            "node.r1.routes={10.9.0.0/16: 10.0.1.2}",
            "option.stack=mip-only",
            "attach=office",
        ],
    )
    assert loaded.topology.networks["internet"].delay == 40
    assert loaded.topology.networks["internet"].rate == 10_000_000
    assert loaded.settings["mn"]["lifetime"] == 60_000
    assert loaded.settings["mn"]["reverse-tunnel"] is False
    assert loaded.node("cn").links["servers"] == IPv4Address("10.0.4.11")
    assert loaded.node("r1").routes == {IPv4Network("10.9.0.0/16"): IPv4Address("10.0.1.2")}
    assert loaded.options == {"stack": "mip-only", "attach": "office", "esp": "auto"}
    assert loaded.topology.options["stack"].default == "mip-in-ipsec"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stack", "expected network.NAME.KEY=VALUE"),
        ("=1", "expected network.NAME.KEY=VALUE"),
        ("a..b=1", "expected network.NAME.KEY=VALUE"),
        ("stack=ipsec", "expected one of mip-only, mip-in-ipsec, ipsec-in-mip, got ipsec"),
        ("stack=[a]", "expected a value, got a list"),
        ("stak=mip-only", "the topology has no option stak\n  hint: did you mean stack?"),
        ("option.stack.x=1", "expected option.NAME=VALUE"),
        ("net.internet.delay=1s", "expected network.NAME.KEY=VALUE"),
        ("network.internt.delay=1s", "the topology has no network internt\n  hint: did you mean internet?"),
        ("network.internet=1s", "expected network.internet.KEY=VALUE"),
        ("network.internet.dely=1s", "a network has no key dely\n  hint: did you mean delay?"),
        ("network.internet.delay=1", "networks.internet.delay: expected a duration"),
        ("network.internet.delay.x=1", "networks.internet.delay has no keys"),
        ("node.cnn.image=x", "the topology has no node cnn\n  hint: did you mean cn?"),
        ("node.mn.lifetme=60s", "nodes.mn.settings.lifetme: unknown to the roles mobile-node, vpn-client"),
        ("node.cn.settings.a.b=1", "nodes.cn.settings.a: unknown to the role correspondent"),
        ("network.hotel.rate.x=1", "networks.hotel.rate: expected a data rate"),
        ("node.mn.lifetime=0", "nodes.mn.settings.lifetime: expected a lifetime of whole seconds"),
        ("node.mn.lifetime=never", "nodes.mn.settings.lifetime: expected a duration"),
        ("node.mn.links={home: 10.0.1.9}", "nodes.mn.attaches[5]: mn is already linked to home"),
        ("node.cn.links.servers=10.0.5.1", "nodes.cn.links.servers: expected an address in 10.0.4.0/24"),
        ("node.cn.links={servers: 10.0.5.1}", "nodes.cn.links.servers: expected an address in 10.0.4.0/24"),
        ("node.cn.roles=[a", "not valid YAML"),
        ("image.hom-agent=a/b", "no node has the role hom-agent\n  hint: did you mean home-agent?"),
        ("image.home-agent.x=a/b", "expected image.ROLE=IMAGE"),
        (
            "image.dhcp-server=a/b",
            "nodes.r2: a node has one image, a/b is for dhcp-server alone, and ospf runs in the same node\n"
            "  hint: if it runs ospf too, add --set node.r2.image=a/b; else give dhcp-server a node of its",
        ),
    ],
)
def test_an_error_in_a_set_points_at_it(text: str, message: str) -> None:
    with pytest.raises(TestbedError) as caught:
        load_topology("scenario-2.1", sets=[text])
    assert message in str(caught.value)
    if "already linked" not in message:  # there the file is as much to blame
        assert str(caught.value).startswith(f"--set {text}: ")
    assert caught.value.exit_code == ExitCode.TOPOLOGY


def test_all_wrong_sets_are_told_at_once() -> None:
    with pytest.raises(ErrorGroup) as caught:
        load_topology("scenario-2.1", sets=["stak=x", "node.x.y=1"])
    assert len(caught.value.errors) == 2


def test_a_node_whose_settings_are_empty_takes_a_set(tmp_path: Path) -> None:
    text = (data_dir("topologies") / "plain-mip.yaml").read_text()
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("    settings: {home-network: home}\n", "    settings:\n"))
    assert (
        load_topology(str(file), sets=["node.ha.home-network=home"]).settings["ha"]["home-network"] == "home"
    )
    with pytest.raises(TopologyError, match=r"nodes.ha.settings: expected a mapping, got nothing"):
        load_topology(str(file))


@pytest.mark.parametrize("key", ["filters", "networks", "nodes"])
def test_a_thousand_of_each_is_the_most(tmp_path: Path, key: str) -> None:
    entry = {
        "filters": "udp",
        "networks": "{subnet: 10.0.0.0/24, domain: internet}",
        "nodes": "{roles: [router]}",
    }
    rest = {
        "networks": "  home: {subnet: 10.0.1.0/24, domain: internet}\n",
        "nodes": "  r: {roles: [router]}\n",
    }
    parts = rest | {key: "".join(f"  f{number}: {entry[key]}\n" for number in range(1001))}
    file = tmp_path / "many.yaml"
    file.write_text("name: many\ntitle: many\n" + "".join(f"{name}:\n{text}" for name, text in parts.items()))
    with pytest.raises(TopologyError) as caught:
        load_topology(str(file))
    assert caught.value.message == f"{key}: expected at most 1000 entries, got 1001"
    assert caught.value.source is not None and caught.value.source.line


def test_a_solution_is_named_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = data_dir("topologies") / "solutions/nothing.yaml"
    monkeypatch.chdir(tmp_path)  # where no such file is
    assert find_topology("solutions/nothing") == file
    assert builtin_name(str(file)) == "solutions/nothing" and builtin_name("nothing.yaml") is None
    with pytest.raises(UsageError) as caught:
        find_topology("nothing")
    assert "did you mean solutions/nothing?" in str(caught.value.hint)
