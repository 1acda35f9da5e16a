"""`up` on a lab that is there: what differs, why, what stays; and `set`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from lab_world import MOBILE, SMALL, Daemons, Told

from testbed.agreed import Impairment
from testbed.engine import names
from testbed.engine.fake import FakeContainer, FakeEngine
from testbed.errors import ExitCode, MachineError, NotReadyError, TestbedError, UsageError
from testbed.experiment.handoff.moves import set_rtt
from testbed.lab import impairments
from testbed.lab.access import LabAccess
from testbed.lab.choices import Choices, differences, keep_choices, merge, recorded
from testbed.lab.impairments import change_lab, parse_change
from testbed.lab.lock import lab_lock
from testbed.lab.state import ActualLab, find_lab, read_labs
from testbed.lab.up import BroughtUp
from testbed.topology.loaded import LoadedTopology

Up = Callable[..., BroughtUp]
Load = Callable[..., LoadedTopology]


@pytest.fixture
def mobile(load: Load, up: Up, told: Told, daemons: Daemons) -> Callable[..., BroughtUp]:
    """Bring up the topology with a mobile node, as lab `mip`."""

    def mobile(*sets: str) -> BroughtUp:
        told.said.clear()
        daemons.asked.clear()
        return up(load(MOBILE, *sets), lab="mip")

    return mobile


# What has changed inside nodes


def test_a_node_that_lost_something_is_replaced_and_the_reason_said(
    engine: FakeEngine, up: Up, told: Told, daemons: Daemons
) -> None:
    up()
    west = engine.box("west").id
    told.said.clear()
    daemons.drift["west"] = "lost link left up\nlost route default via 10.1.0.1 dev left\n"
    done = up()
    assert (done.created, done.removed) == (1, 1) and engine.box("west").id != west
    assert told.said == [
        "lab small: removing 1 node and 0 networks, creating 1 node",
        "  west: lost link left up; lost route default via 10.1.0.1 dev left",
    ]


def test_a_removed_node_loses_its_links_first_where_others_stay(
    engine: FakeEngine, up: Up, daemons: Daemons
) -> None:
    up()
    daemons.drift["west"] = "lost link left up"
    daemons.asked.clear()
    up()
    assert ("west", "sh") in daemons.asked


def test_a_service_that_was_stopped_is_started_and_waited_for(
    engine: FakeEngine, up: Up, told: Told, daemons: Daemons
) -> None:
    up()
    told.said.clear()
    daemons.drift["west"] = "stopped echo\n"
    command = engine.command

    def supervised(box: FakeContainer, words: list[str], stdin: bytes) -> tuple[bytes, bytes, int]:
        if tuple(words[:2]) == ("sv", "up"):
            assert words[2:] == ("/etc/testbed/services/echo",)
            box.event("ready", "echo")
        return command(box, words, stdin)

    engine.command = supervised  # type: ignore[assignment]
    done = up()
    assert (done.created, done.mended, done.changed) == (0, 1, True)
    assert told.said == ["lab small: no node to replace", "  west: starting echo again"]


@pytest.mark.parametrize(("code", "comes"), [(0, True), (1, False)])
def test_a_service_that_takes_its_time_to_end_is_waited_for_all_the_same(
    engine: FakeEngine, up: Up, daemons: Daemons, code: int, comes: bool
) -> None:
    up()
    daemons.drift["west"] = "stopped echo\n"
    command = engine.command

    def supervised(box: FakeContainer, words: list[str], stdin: bytes) -> tuple[bytes, bytes, int]:
        if tuple(words[:2]) == ("sv", "up"):
            box.event("exit", "echo", code=code, status=code)
            box.event("ready", "echo")
        return command(box, words, stdin)

    engine.command = supervised  # type: ignore[assignment]
    if comes:
        assert up().mended == 1
    else:
        with pytest.raises(TestbedError, match="service echo of node west ended"):
            up()


@pytest.mark.parametrize("behind", [-3600.0, 0.0, 3600.0])
def test_whose_clock_is_wrong_does_not_matter(
    engine: FakeEngine, up: Up, daemons: Daemons, behind: float
) -> None:
    engine.behind = behind
    up()
    daemons.drift["west"] = "stopped echo"
    command = engine.command

    def supervised(box: FakeContainer, words: list[str], stdin: bytes) -> tuple[bytes, bytes, int]:
        if tuple(words[:2]) == ("sv", "up"):
            box.event("ready", "echo")
        return command(box, words, stdin)

    engine.command = supervised  # type: ignore[assignment]
    assert up(timeout=1.0).mended == 1


@pytest.mark.parametrize("behind", [-3600.0, 0.0])
def test_that_it_was_ready_once_does_not_count(
    engine: FakeEngine, up: Up, daemons: Daemons, behind: float
) -> None:
    engine.behind = behind
    up()
    daemons.drift["west"] = "stopped echo\n"
    with pytest.raises(NotReadyError, match="west is not ready: echo not started"):
        up(timeout=0.2)


@pytest.mark.parametrize("code", [126, 127])
def test_a_node_without_the_program_that_looks_stays_and_that_is_said(
    engine: FakeEngine, up: Up, told: Told, daemons: Daemons, code: int
) -> None:
    up()
    west = engine.box("west").id
    told.said.clear()
    engine.command = lambda box, words, stdin: (
        (b"", b"exec failed", code)
        if box.id == west and words[0] == "/sbin/testbed-drift"
        else daemons(box, words, stdin)
    )
    done = up()
    assert not done.changed and engine.box("west").id == west
    assert told.said == [
        "lab small: no node to replace",
        "  west: cannot be compared: /sbin/testbed-drift does not run in its image",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda engine: engine.box("west").stop(137), "west: does not run (Exited (137))"),
        (lambda engine: engine.remove_container(engine.box("west").id), "west: missing"),
    ],
)
def test_why_a_node_is_made_anew(
    engine: FakeEngine, up: Up, told: Told, change: Callable[[FakeEngine], None], reason: str
) -> None:
    up()
    told.said.clear()
    change(engine)
    up()
    assert told.said[1:] == [f"  {reason}"]


def test_changed_files_and_images_are_named(engine: FakeEngine, up: Up, told: Told, load: Load) -> None:
    up()
    told.said.clear()
    engine.images.add("other:1")
    up(
        load(
            SMALL.replace("10.1.0.1", "10.1.0.9").replace(
                "left: 10.1.0.2}", "left: 10.1.0.2}, image: other:1"
            )
        )
    )
    assert told.said[1:] == ["  middle: links changed", "  west: image testbed-node:test → other:1"]


# Choices stay


def test_what_is_not_named_stays(engine: FakeEngine, mobile: Up, load: Load) -> None:
    mobile("attach=hotel", "network.internet.delay=40ms")
    kept = keep_choices(recorded(engine, find_lab(engine, "mip")), load(MOBILE, "option.attach=home"))
    assert kept.sets == ("option.attach=home", "network.internet.delay=40ms")
    assert kept.topology.networks["internet"].delay == 40


def test_what_is_kept_is_read_once_and_under_the_lock(
    engine: FakeEngine, up: Up, load: Load, daemons: Daemons, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(load(MOBILE, "network.internet.delay=40ms"), lab="mip")
    daemons.relay["delay_ms"] = 40
    held = []

    def read(engine: FakeEngine, lab: ActualLab) -> Choices | None:
        with pytest.raises(UsageError, match="another testbed"), lab_lock("mip", engine.address):
            pass
        held.append(lab.name)
        return recorded(engine, lab)

    monkeypatch.setattr("testbed.lab.up.recorded", read)
    assert up(load(MOBILE), lab="mip", keep=True).mended == 0
    assert up(load(MOBILE), lab="mip").mended == 1
    assert held == ["mip", "mip"]


def test_the_template_folder_is_no_word_of_a_node(
    engine: FakeEngine, mobile: Up, daemons: Daemons, tmp_path: Path
) -> None:
    mobile()
    later = Choices(("attach=hotel",), str(tmp_path), time.time() + 60)
    for node in ("core", "fa-hotspot", "hotel-router", "ha", "cn", "mn"):
        daemons.files[node, "/run/testbed/choices.json"] = later.text
    found = recorded(engine, find_lab(engine, "mip"))
    assert found is not None and (found.sets, found.templates) == (("attach=hotel",), None)


def test_a_template_folder_is_found_later_though_it_renders_nothing_different(
    engine: FakeEngine, up: Up, load: Load, told: Told, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    up(load(MOBILE), lab="mip")
    done = up(replace(load(MOBILE), templates=folder), lab="mip", keep=True)
    assert (done.created, done.removed) == (1, 1)
    assert told.said[-2:] == [
        "lab mip: removing 1 node and 0 networks, creating 1 node",
        "  cn: its labels are to name the template folder",
    ]
    found = recorded(engine, find_lab(engine, "mip"))
    assert found is not None and found.templates == str(folder.resolve())
    assert not up(load(MOBILE), lab="mip", keep=True).changed  # it has kept the folder
    assert up(load(MOBILE), lab="mip").created == 1  # and now it has not
    found = recorded(engine, find_lab(engine, "mip"))
    assert found is not None and found.templates is None


def test_a_choice_of_long_ago_that_the_file_does_not_take(engine: FakeEngine, mobile: Up, load: Load) -> None:
    mobile("node.cn.image=testbed-node:test")
    changed = load(MOBILE.replace("cn:\n", "server:\n").replace("probe: cn", "probe: server"))
    with pytest.raises(TestbedError, match=r"the topology has no node cn(.|\n)*--reset goes back"):
        keep_choices(recorded(engine, find_lab(engine, "mip")), changed)


def test_a_template_folder_that_is_gone(small: LoadedTopology) -> None:
    with pytest.raises(UsageError, match=r"/not/there is not there any more(.|\n)*--reset"):
        keep_choices(Choices((), "/not/there", 1.0), small)


def test_the_newest_choices_count_and_live_in_every_node_that_stays(
    engine: FakeEngine, mobile: Up, daemons: Daemons
) -> None:
    mobile()
    mobile("attach=hotel")
    assert {node for node, file in daemons.files if file.endswith("choices.json")} == {
        "core", "fa-hotspot", "hotel-router", "ha", "cn",
    }  # fmt: skip
    found = recorded(engine, find_lab(engine, "mip"))
    assert found is not None and found.sets == ("attach=hotel",)


def test_of_two_choices_for_one_thing_the_later_stays() -> None:
    assert merge(["stack=a", "node.mn.settings.lifetime=1s"], ["option.stack=b", "nodes.mn.lifetime=2s"]) == (
        "option.stack=b",
        "nodes.mn.lifetime=2s",
    )


def test_what_differs_is_said_as_set_would_have_it(load: Load) -> None:
    assert differences(
        load(MOBILE), load(MOBILE, "attach=home", "network.internet.delay=40ms", "network.internet.loss=1%")
    ) == [
        "option.attach hotspot → home",
        "network.internet.delay 10ms → 40ms",
        "network.internet.loss unset → 1%",
    ]


# Delay


def test_another_delay_replaces_nothing(engine: FakeEngine, mobile: Up, told: Told, daemons: Daemons) -> None:
    mobile()
    core = engine.box("core").id
    done = mobile("network.internet.delay=40ms")
    assert (done.created, done.mended, engine.box("core").id) == (0, 1, core)
    assert told.said == ["lab mip: no node to replace", "  network.internet.delay 10ms → 40ms"]
    assert daemons.relay["delay_ms"] == 40
    assert any(op == "ping" for _, op in daemons.asked)


def test_a_lab_whose_packets_go_past_the_hub_is_not_ready(
    mobile: Up, daemons: Daemons, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impairments, "_PATIENCE", 0.3)
    daemons.round_trip = 0.13
    with pytest.raises(NotReadyError, match=r"comes back in 0\.13 ms; its delay makes that at least 20 ms"):
        mobile()


def test_a_hub_behind_which_nobody_answers(
    mobile: Up, told: Told, daemons: Daemons, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impairments, "_PATIENCE", 0.1)
    engine.command = lambda box, words, stdin: (
        (b"", b"", 1) if words[0] == "ping" else daemons(box, words, stdin)
    )
    mobile()
    assert "internet: no packet came back across core, so that its delay was not seen" in told.said


def test_the_round_trip_time_of_a_measurement_is_set_at_the_hub_and_seen(
    engine: FakeEngine, mobile: Up, load: Load, told: Told, daemons: Daemons, monkeypatch: pytest.MonkeyPatch
) -> None:
    mobile()
    nodes = find_lab(engine, "mip").nodes
    lab = LabAccess(engine, "mip", load(MOBILE), {name: each.id for name, each in nodes.items()})
    daemons.asked.clear()
    assert set_rtt(lab, 100.0, told) == "relay"
    assert daemons.relay["delay_ms"] == 50 and any(op == "ping" for _, op in daemons.asked)
    monkeypatch.setattr(impairments, "_PATIENCE", 0.3)
    daemons.round_trip = 0.13
    with pytest.raises(NotReadyError, match="its delay makes that at least 100 ms"):
        set_rtt(lab, 100.0, told)


def test_set_changes_a_running_lab_and_is_remembered(
    engine: FakeEngine, mobile: Up, told: Told, daemons: Daemons
) -> None:
    mobile()
    now = change_lab(engine, "mip", ["network.internet.delay=80ms", "network.internet.loss=1%"], told)
    assert (now["internet"].delay_ms, now["internet"].loss, daemons.relay["delay_ms"]) == (80, 1, 80)
    found = recorded(engine, find_lab(engine, "mip"))
    assert found is not None and found.sets == ("network.internet.delay=80ms", "network.internet.loss=1%")


def test_another_delay_where_no_hub_is_counts_as_well(mobile: Up, daemons: Daemons) -> None:
    assert mobile("network.home.delay=5ms").mended == 0  # nodes that are new have it from their start
    assert mobile("network.home.delay=5ms").mended == 0
    done = mobile("network.home.delay=40ms")
    assert (done.created, done.mended, done.changed) == (0, 1, True)
    assert json.loads(daemons.files["cn", "/run/testbed/impairments/home.json"])["delay_ms"] == "40"


def test_what_a_network_has_is_asked_of_all_its_nodes(
    engine: FakeEngine, mobile: Up, told: Told, daemons: Daemons
) -> None:
    mobile()
    change_lab(engine, "mip", ["network.home.delay=5ms"], told)
    del daemons.files["cn", "/run/testbed/impairments/home.json"]
    assert change_lab(engine, "mip", ["network.home.loss=1%"], told)["home"] == Impairment(5.0, loss=1.0)
    del daemons.files["mn", "/run/testbed/impairments/home.json"]
    assert mobile("network.home.delay=5ms", "network.home.loss=1%").mended == 1


def test_set_on_a_network_without_a_hub_needs_the_kernel(
    engine: FakeEngine, mobile: Up, told: Told, daemons: Daemons
) -> None:
    mobile()
    change_lab(engine, "mip", ["network.home.delay=5ms"], told)
    assert {node for node, program in daemons.asked if program == "python3"} == {"ha", "cn", "mn"}
    refused = (b"", b"Error: Specified qdisc kind is unknown.", 1)
    engine.command = lambda box, words, stdin: (
        refused if words[0] == "python3" else daemons(box, words, stdin)
    )
    with pytest.raises(MachineError, match=r"home has no hub, and (.|\n)*hint: .*internet") as error:
        change_lab(engine, "mip", ["network.home.delay=5ms"], told)
    assert error.value.exit_code == ExitCode.ENVIRONMENT


def test_what_could_not_be_brought_into_force_is_not_remembered(
    engine: FakeEngine, mobile: Up, daemons: Daemons
) -> None:
    mobile("network.internet.delay=10ms")
    refused = (b"", b"Error: Specified qdisc kind is unknown.", 1)
    engine.command = lambda box, words, stdin: (
        refused if words[0] == "python3" else daemons(box, words, stdin)
    )
    with pytest.raises(MachineError, match="home has no hub"):
        mobile("network.internet.delay=10ms", "network.home.delay=5ms", "attach=hotel")
    found = recorded(engine, find_lab(engine, "mip"))
    assert found is not None and found.sets == ("attach=hotel", "network.internet.delay=10ms")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("internet=1", "expected network.NAME.KEY=VALUE"),
        ("option.stack=mip-only", "expected network.NAME.KEY=VALUE"),
        (
            "network.internet.dely=1s",
            "got dely\n  hint: did you mean delay",
        ),
        (
            "network.internet.delay=30",
            "such as 40ms, 1.5s or 10min\n  hint: add a unit: 30ms",
        ),
        ("network.internet.loss=101%", "expected a percentage"),
        ("network.internet.delay=[1", "not valid YAML"),
    ],
)
def test_what_cannot_be_set(text: str, message: str) -> None:
    with pytest.raises(TestbedError) as error:
        parse_change(text)
    assert message in str(error.value)


def test_a_network_that_the_lab_has_not(engine: FakeEngine, mobile: Up, told: Told) -> None:
    mobile()
    with pytest.raises(UsageError, match=r"lab mip has no network internt\n  hint: did you mean internet"):
        change_lab(engine, "mip", ["network.internt.delay=1s"], told)


# The data path


def test_a_new_lab_has_seen_data_when_its_mobile_node_has(mobile: Up, daemons: Daemons) -> None:
    assert mobile().no_data == {}
    assert ("mn", "ping") not in daemons.asked and ("mn", "repair") not in daemons.asked


def test_a_lab_whose_mobile_node_reached_nobody_is_up_but_says_so(mobile: Up, daemons: Daemons) -> None:
    daemons.roam |= {"state": "unregistered", "detail": "ike-timeout", "timeline": {"data": None}}
    assert mobile().no_data == {"mn": "ike-timeout"}


def test_a_mobile_node_that_counts_as_registered_and_reaches_nobody_registers_anew(
    engine: FakeEngine, mobile: Up, daemons: Daemons
) -> None:
    mobile()
    engine.box("ha").stop(137)
    daemons.reached = False
    assert mobile().no_data == {}
    assert daemons.asked.count(("mn", "repair")) == 1


def test_a_mobile_node_that_reaches_its_correspondent_is_left_alone(mobile: Up, daemons: Daemons) -> None:
    mobile()
    assert mobile().changed is False
    assert ("mn", "ping") in daemons.asked and ("mn", "repair") not in daemons.asked


@pytest.mark.parametrize("changed", [False, True])
def test_one_that_is_not_registered_tries_again_where_the_lab_has_changed(
    engine: FakeEngine, mobile: Up, daemons: Daemons, changed: bool
) -> None:
    mobile()
    daemons.roam |= {"state": "unregistered", "detail": "ike-timeout", "timeline": {"data": None}}
    if changed:
        engine.box("ha").stop(137)
    done = mobile()
    assert done.no_data == ({} if changed else {"mn": "ike-timeout"})
    assert (("mn", "repair") in daemons.asked) == changed


def test_labels_say_what_a_lab_was_made_with(engine: FakeEngine, mobile: Up) -> None:
    mobile("attach=hotel")
    labels = read_labs(engine)["mip"].containers[0].labels
    assert json.loads(labels[names.CHOICES])["sets"] == ["attach=hotel"]
    assert "/etc/testbed/links" in json.loads(labels[names.FILES])
