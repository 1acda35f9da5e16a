"""A lab on several engines: where its nodes are, what joins its networks, what becomes of it in the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lab_world import IMAGE, MOBILE, PLACED, SMALL, Told
from underlay import Underlay, assert_nothing_is_left, join

from testbed.engine import members, names, record
from testbed.engine.api import ContainerSpec, EngineError, NetworkSpec
from testbed.engine.channel import ChannelEngine
from testbed.engine.fake import FakeEngine
from testbed.engine.joined import JoinedEngine
from testbed.engine.vtep import device, vni
from testbed.errors import ErrorGroup, MachineError, TopologyError, UsageError
from testbed.lab.addresses import DEFAULT_POOL
from testbed.lab.down import remove_labs
from testbed.lab.inside import run_inside
from testbed.lab.placement import place_nodes
from testbed.lab.state import find_lab, read_labs
from testbed.lab.status import lab_status
from testbed.lab.up import BroughtUp
from testbed.topology.loaded import LoadedTopology

Load = Callable[..., LoadedTopology]
Up = Callable[..., BroughtUp]


# Where the nodes are


def test_a_topology_says_where_its_nodes_are(underlay: Underlay, joined: JoinedEngine, up_on: Up) -> None:
    up_on()
    engines = underlay.engines
    assert sorted(box.spec.name for box in engines["a"].boxes.values()) == [
        "testbed-small-west",
        "testbed-small_vtep",
    ]
    assert find_lab(joined, "small").places == {"west": "a", "east": "b", "middle": "b"}


def test_nodes_of_one_role_are_spread(load: Load) -> None:
    topology = load(MOBILE)
    placed = place_nodes(topology, ("a", "b"), {})
    assert {placed["core"], placed["fa-hotspot"], placed["hotel-router"], placed["ha"]} == {"a", "b"}
    routers = [placed[name] for name in topology.with_role("router")]
    assert sorted(map(routers.count, "ab")) == [2, 2]
    assert sorted([*placed.values()].count(name) for name in "ab") == [3, 3]
    assert place_nodes(topology, (), {}) == {}


def test_what_runs_stays_where_it_is_unless_place_says_otherwise(load: Load) -> None:
    assert place_nodes(load(SMALL), ("a", "b"), {"west": "b", "east": "b"})["west"] == "b"
    assert place_nodes(load(PLACED), ("a", "b"), {"west": "b"})["west"] == "a"
    assert place_nodes(load(SMALL), ("a", "b"), {"west": "elsewhere"})["west"] in "ab"


def test_an_unknown_engine_is_shown_where_it_is_written(load: Load, tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="unknown engine aa") as caught:
        place_nodes(load(f"{SMALL}place:\n  west: aa\n"), ("a", "b"), {})
    assert str(caught.value.source) == f"{tmp_path}/small.yaml:11:9" and caught.value.exit_code == 4


def test_an_unknown_node_is_shown_where_it_is_written(load: Load) -> None:
    with pytest.raises(TopologyError, match="unknown node wets") as caught:
        load(f"{SMALL}place: {{wets: a}}\n")
    assert caught.value.source and caught.value.source.line == 10 and "west" in str(caught.value.hint)


def test_on_a_single_engine_place_means_nothing(up: Up, load: Load, engine: FakeEngine) -> None:
    up(load(PLACED))
    assert names.ENGINE not in engine.box("west").spec.labels


def test_a_node_moves_to_another_engine(underlay: Underlay, told: Told, up_on: Up) -> None:
    up_on()
    up_on(PLACED.replace("west: a", "west: b"), engine=join(underlay, told))
    assert "  west: moves from engine a to engine b" in told.said
    assert underlay.engines["b"].box("west")
    with pytest.raises(StopIteration):
        underlay.engines["a"].box("west")


# The wires


def test_each_network_is_a_vxlan_with_macvlans_on_it(underlay: Underlay, up_on: Up, told: Told) -> None:
    up_on()
    wires = {
        device(f"testbed-small-{name}"): f"testbed small testbed-small-{name}" for name in ("left", "right")
    }
    for host in underlay.hosts.values():
        assert host.devices == wires
        specs = host.engine.network_specs.values()
        assert {spec.parent for spec in specs} == wires.keys()
        assert {spec.labels[names.MTU] for spec in specs} == {"1450"}
    subnets = [
        {spec.name: spec.subnet for spec in one.network_specs.values()} for one in underlay.engines.values()
    ]
    assert subnets[0] == subnets[1]
    assert "engines a, b: VXLAN on UDP port 4789, MTU 1450" in told.said


def test_identifiers_differ_and_stay() -> None:
    assert vni("testbed-small-left") != vni("testbed-small-right")
    assert 0 <= vni("x") < 1 << 24 and len(device("x")) <= 15


def test_room_below_keeps_the_mtu_of_ethernet(underlay: Underlay, joined: JoinedEngine, up_on: Up) -> None:
    for host in underlay.hosts.values():
        host.mtu = 1550
    up_on()
    assert {*underlay.hosts["a"].mtus.values()} == {1500}
    assert lab_status(joined, find_lab(joined, "small")).mtu == 1500


def test_the_smallest_interface_counts(underlay: Underlay, joined: JoinedEngine, up_on: Up) -> None:
    underlay.hosts["b"].mtu = 1400
    up_on()
    assert {*underlay.hosts["a"].mtus.values()} == {1350}


def test_a_smaller_link_in_between_is_found_before_nodes_start(underlay: Underlay, up_on: Up) -> None:
    underlay.path_mtu = 1400
    with pytest.raises(MachineError, match=r"packets of 1500 bytes from engine . do not arrive at engine"):
        up_on()
    assert_nothing_is_left(underlay)


def test_a_closed_port_is_found_before_nodes_start(underlay: Underlay, up_on: Up) -> None:
    underlay.blocked = {("a", "b")}
    with pytest.raises(MachineError, match="nothing from a arrived at b") as caught:
        up_on()
    assert "UDP port 4789" in str(caught.value.hint) and caught.value.exit_code == 3
    assert_nothing_is_left(underlay)


def test_engines_of_one_host_cannot_share_a_lab(underlay: Underlay, up_on: Up) -> None:
    for host in underlay.hosts.values():
        host.namespace = "the same"
    with pytest.raises(MachineError, match="a and b are the same engine, or share the network of one host"):
        up_on()
    assert_nothing_is_left(underlay)


@pytest.mark.parametrize(("ahead", "said"), [(0.25, True), (-0.25, True), (0.005, False)])
def test_clocks_that_differ_are_named(
    underlay: Underlay, up_on: Up, told: Told, ahead: float, said: bool
) -> None:
    underlay.clocks["b"] = ahead
    up_on()
    assert any("clocks of engines a and b differ by 250 ms" in line for line in told.said) is said


def test_wires_that_a_host_has_lost_are_laid_again(underlay: Underlay, told: Told, up_on: Up) -> None:
    up_on()
    host = underlay.hosts["b"]
    before = dict(host.devices)
    host.devices.clear()
    host.engine.box("east").stop()
    up_on(engine=join(underlay, told))
    assert host.devices == before


def test_networks_are_made_anew_on_an_engine_that_started_without_their_wires(
    underlay: Underlay, told: Told, up_on: Up
) -> None:
    up_on()
    host = underlay.hosts["b"]
    before = {*host.engine.network_specs}
    kept = {*underlay.engines["a"].network_specs}
    host.devices.clear()
    for box in host.engine.boxes.values():
        box.stop()
    up_on(engine=join(underlay, told))
    assert len(host.engine.network_specs) == 2 and before.isdisjoint(host.engine.network_specs)
    assert {*underlay.engines["a"].network_specs} == kept
    assert {spec.parent for spec in host.engine.network_specs.values()} == host.devices.keys()


# Images


def test_an_engine_gets_the_images_that_it_lacks(underlay: Underlay, up_on: Up, told: Told) -> None:
    underlay.engines["b"].images.clear()
    up_on()
    assert underlay.engines["b"].images == {IMAGE}
    assert told.said.count(f"copying image {IMAGE} from engine a to engine b") == 1


def test_the_image_is_where_any_of_them_has_it(
    underlay: Underlay, joined: JoinedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbed.engine.image.node_image_name", lambda: IMAGE)
    underlay.engines["a"].images.clear()
    joined.vtep_image = ""
    assert members.prepare_image(joined, print, print) == joined.vtep_image == IMAGE
    assert joined.image_id(IMAGE) == underlay.engines["b"].image_id(IMAGE)
    assert "image_id" not in underlay.engines["a"].calls


# All as one


def test_up_again_does_nothing(underlay: Underlay, told: Told, up_on: Up) -> None:
    assert up_on().created == 5
    again = join(underlay, told)
    assert not up_on(engine=again).changed
    assert {one.name for one in read_labs(again)["small"].networks} == {
        "testbed-small-left",
        "testbed-small-right",
    }


def test_status_names_engines_and_mtu(joined: JoinedEngine, up_on: Up) -> None:
    up_on()
    found = lab_status(joined, find_lab(joined, "small")).to_dict()
    assert found["engines"] == {"a": "tcp://192.0.2.1", "b": "tcp://192.0.2.2"}
    assert found["nodes"]["east"]["engine"] == "b" and found["networks"]["left"]["mtu"] == 1450
    assert joined.facts().cpus == 4 and joined.facts().version == "1.0"


def test_commands_reach_nodes_where_they_are(underlay: Underlay, joined: JoinedEngine, up_on: Up) -> None:
    up_on()
    node = find_lab(joined, "small").node("east")
    run_inside(ChannelEngine(joined), node, ["ping"])
    assert ("east", "ping") in underlay.hosts["b"].daemons.asked
    assert ("east", "ping") not in underlay.hosts["a"].daemons.asked
    assert joined.read_file(node.id, "/etc/testbed/node.json")


def test_a_network_of_another_lab_stays(underlay: Underlay, joined: JoinedEngine, up_on: Up) -> None:
    other = NetworkSpec("testbed-small-left", next(DEFAULT_POOL.subnets(new_prefix=29)), {})
    underlay.engines["b"].create_network(other)
    with pytest.raises(UsageError, match="testbed-small-left exists in the engine already"):
        up_on()
    assert [spec.name for spec in underlay.engines["b"].network_specs.values()] == ["testbed-small-left"]
    assert not underlay.engines["b"].boxes and not underlay.engines["a"].network_specs


def test_labs_of_one_engine_are_not_seen(underlay: Underlay, joined: JoinedEngine, up_on: Up) -> None:
    up_on()
    spec = ContainerSpec("testbed-alone-x", "x", IMAGE, {names.LAB: "alone"}, (), b"")
    underlay.engines["a"].create_container(spec)
    assert read_labs(joined).keys() == {"small"}


# The end


def test_down_leaves_nothing(underlay: Underlay, told: Told, up_on: Up) -> None:
    up_on()
    assert record.all_recorded() == {"small": {"a": "tcp://192.0.2.1", "b": "tcp://192.0.2.2"}}
    removed = remove_labs(join(underlay, told), "small")
    assert len(removed.containers) == 3 and len(removed.networks) == 2
    assert_nothing_is_left(underlay)


class Killed(BaseException):
    """As `kill -9` ends `up`: nothing of it gets to clean up."""


@pytest.mark.parametrize(
    ("call", "after"),
    [
        *(("create_network", done) for done in (0, 1)),
        *(("create_container", done) for done in (0, 1, 2)),
        *(("start_container", done) for done in (0, 1, 2)),
    ],
)
def test_down_after_a_kill_leaves_nothing(
    underlay: Underlay, told: Told, up_on: Up, monkeypatch: pytest.MonkeyPatch, call: str, after: int
) -> None:
    left = iter(range(after))
    monkeypatch.setattr(JoinedEngine, "remove_network", lambda self, id: None)

    def kill(subject: str) -> BaseException | None:
        return Killed() if next(left, None) is None else None

    underlay.engines["b"].failures[call] = kill
    with pytest.raises(Killed):
        up_on()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(Path(record._folder()).parents[1]))
    monkeypatch.setattr("testbed.lab.down._STRAGGLERS", 0.0)
    underlay.engines["b"].failures.clear()
    remove_labs(join(underlay, told), "small")
    for host in underlay.hosts.values():
        assert not host.engine.boxes and not host.engine.network_specs and not host.devices


def test_down_after_the_end_points_have_died(underlay: Underlay, told: Told, up_on: Up) -> None:
    up_on()
    for engine in underlay.engines.values():
        vtep = next(id for id, box in engine.boxes.items() if box.spec.host_network)
        engine.remove_container(vtep)
    remove_labs(join(underlay, told), "small")
    assert_nothing_is_left(underlay)


def test_an_up_that_fails_leaves_nothing(underlay: Underlay, up_on: Up) -> None:
    underlay.engines["b"].failures["start_container"] = lambda id: EngineError("no")
    with pytest.raises((EngineError, ErrorGroup)):
        up_on()
    underlay.engines["b"].failures.clear()
    assert not underlay.engines["a"].boxes
