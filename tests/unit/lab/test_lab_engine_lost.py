"""Which engines a lab is on, and what becomes of it where some of them do not answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab_world import IMAGE, Run, Told
from underlay import Underlay, assert_nothing_is_left, join

from testbed.cli import main
from testbed.engine import members, record
from testbed.engine.api import EngineError, UnreachableError
from testbed.engine.fake import FakeEngine, FakeLog
from testbed.engine.joined import JoinedEngine
from testbed.errors import ErrorGroup, MachineError, TestbedError, UsageError
from testbed.lab.down import remove_labs
from testbed.lab.state import find_lab
from testbed.lab.up import BroughtUp

Up = Callable[..., BroughtUp]
OnceFollowed = Callable[[Callable[[], None]], None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a"], "expected NAME=ADDRESS"),
        (["=tcp://x", "b=tcp://y"], "expected NAME=ADDRESS"),
        (["A=tcp://x", "b=tcp://y"], "expected NAME=ADDRESS"),
        (["a=tcp://x", "a=tcp://y"], "the name a is given twice"),
        (["a=tcp://x", "b=tcp://x"], "this engine is named twice"),
        (["a=tcp://x"], "needs two at least"),
    ],
)
def test_options_that_do_not_fit(options: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        members.parse_engines(options)


@pytest.fixture
def reachable(underlay: Underlay, monkeypatch: pytest.MonkeyPatch, engine: FakeEngine) -> FakeEngine:
    """The engines are reached by their addresses; returns the usual one."""
    by_address = {one.address: one for one in underlay.engines.values()}

    def connect(place: object = None) -> FakeEngine:
        found = engine if place is None else by_address[place.address.replace("http", "tcp")]  # type: ignore[attr-defined]
        if found.gone:
            raise EngineError(f"no container engine answers at {found.address}")
        return found

    monkeypatch.setattr("testbed.engine.connect.connect", connect)
    monkeypatch.setattr("testbed.engine.provision.reach_engine", lambda say: connect())
    return engine


def test_a_lab_remembers_its_engines(reachable: FakeEngine, up_on: Up, told: Told) -> None:
    assert members.lab_engine("small", told.say) is reachable
    up_on()
    assert members.lab_engine("small", told.say).members == ("a", "b")
    assert members.choose_engine((), ["small"], told.say).members == ("a", "b")
    assert members.choose_engine((), ["other"], told.say) is reachable


def test_labels_lead_to_the_engines_where_no_note_does(
    reachable: FakeEngine, underlay: Underlay, up_on: Up, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    up_on()
    record.forget("small")
    assert members.lab_engine("small", told.say) is reachable
    usual = underlay.engines["b"]
    monkeypatch.setattr(
        "testbed.engine.connect.connect",
        lambda place=None: (
            usual
            if place is None
            else next(e for e in underlay.engines.values() if e.address[6:] in place.address)
        ),
    )
    assert members.lab_engine("small", told.say).members == ("a", "b")
    assert [one.members for one in members.all_engines(None, told.say)] == [("a", "b"), ()]


def test_a_lab_does_not_change_its_engines(reachable: FakeEngine, up_on: Up, told: Told) -> None:
    up_on()
    with pytest.raises(UsageError, match=r"lab small is on other engines: --engine a=tcp://192.0.2.1"):
        members.choose_engine(["a=tcp://192.0.2.1", "c=tcp://192.0.2.2"], ["small"], told.say)


def test_up_needs_all_engines_and_later_commands_some(
    reachable: FakeEngine, underlay: Underlay, up_on: Up, told: Told
) -> None:
    up_on()
    underlay.engines["b"].gone = True
    with pytest.raises(EngineError, match=r"no container engine answers at tcp://192.0.2.2"):
        members.choose_engine((), ["small"], told.say)
    assert [*find_lab(members.lab_engine("small", told.say), "small").nodes] == ["west"]
    underlay.engines["a"].gone = True
    with pytest.raises(TestbedError):
        members.lab_engine("small", told.say)


def test_an_engine_that_is_absent_and_two_that_differ(
    reachable: FakeEngine, underlay: Underlay, told: Told
) -> None:
    both = ["a=tcp://192.0.2.1", "b=tcp://192.0.2.2"]
    a, b = underlay.engines.values()
    b.version = "26.1.5"
    assert members.choose_engine(both, [], told.say).members == ("a", "b")
    assert told.said == ["the engines differ: a Fake Engine 1.0, b Fake Engine 26.1.5"]
    b.architecture = "aarch64"
    with pytest.raises(MachineError, match="of different architectures: a x86_64, b aarch64") as caught:
        members.choose_engine(both, [], told.say)
    assert "one image" in str(caught.value.hint)
    a.gone = b.gone = True
    with pytest.raises(ErrorGroup, match=r"engine a: no container .*\n.*engine b: no container"):
        members.choose_engine(both, [], told.say)


def test_two_names_for_one_engine(underlay: Underlay, told: Told, up_on: Up) -> None:
    a = underlay.hosts["a"]
    same = JoinedEngine(
        {"a": a.engine, "b": a.engine}, {"a": "tcp://192.0.2.1", "b": "ssh://lab-1"}, told.say
    )
    same.vtep_image = IMAGE
    with pytest.raises(MachineError, match="engines a and b are the same engine, or share the network"):
        up_on(engine=same)
    assert_nothing_is_left(underlay)


# An engine that goes away


@pytest.fixture
def run(reachable: FakeEngine, capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        streams = capfd.readouterr()
        return code, streams.out, " ".join(streams.err.split())

    return run


def test_commands_on_a_lab_one_of_whose_engines_is_gone(
    run: Run, underlay: Underlay, up_on: Up, tmp_path: Path
) -> None:
    up_on()
    assert "3 of 3 running" in run("status")[1]
    out = run("status", "small")[1]
    assert "MTU 1450" in out and "a=tcp://192.0.2.1, b=tcp://192.0.2.2" in out and "ENGINE" in out
    underlay.engines["b"].gone = True
    gone = "engine b (tcp://192.0.2.2) does not answer"
    code, out, err = run("status", "small")
    assert code == 0 and "west" in out and "middle" not in out
    assert err == f"{gone}: what is there is left out"
    for command in (["logs", "small", "east"], ["capture", "small", "east"], ["restart", "small", "east"]):
        code, _, err = run(*command)
        assert code == 3 and f"no engine that answers has a node east of lab small; {gone}" in err
    assert run("logs", "small", "west")[0] == 0
    code, _, err = run("up", f"{tmp_path}/small.yaml")
    assert code == 3 and "engine b: no container engine answers at tcp://192.0.2.2" in err


@pytest.fixture
def once_followed(underlay: Underlay, monkeypatch: pytest.MonkeyPatch) -> OnceFollowed:
    """Sets what happens once a log of engine b is followed."""
    engine = underlay.engines["b"]
    logs = engine.logs

    def set_act(act: Callable[[], None]) -> None:
        def follow(*arguments: Any, **options: Any) -> FakeLog:
            log = logs(*arguments, **options)
            if options.get("follow"):
                act()
            return log

        monkeypatch.setattr(engine, "logs", follow)

    return set_act


def test_following_logs_ends_with_an_engine_that_goes_away(
    run: Run, underlay: Underlay, up_on: Up, once_followed: OnceFollowed
) -> None:
    up_on()
    engine = underlay.engines["b"]
    engine.box("east").write("last words", "stderr")
    once_followed(lambda: setattr(engine, "gone", True))
    for nodes in (["east"], ["west", "east"]):
        engine.gone = False
        code, out, err = run("logs", "small", *nodes, "--follow")
        assert code == 3 and "last words" in out
        assert err.endswith("error: engine b (tcp://192.0.2.2) does not answer")


def test_following_logs_ends_with_the_nodes(
    run: Run, underlay: Underlay, up_on: Up, once_followed: OnceFollowed
) -> None:
    up_on()
    engine = underlay.engines["b"]
    id = engine.box("east").id
    once_followed(lambda: engine.remove_container(id))
    assert run("logs", "small", "east", "--follow")[::2] == (0, "")


def test_down_removes_the_rest_once_an_engine_is_back(run: Run, underlay: Underlay, up_on: Up) -> None:
    up_on()
    underlay.engines["b"].gone = True
    code, _, err = run("down", "small")
    assert code == 3 and "removed 1 nodes and 2 networks" in err
    assert "what lab small may have there is left: engine b (tcp://192.0.2.2) does not answer" in err
    assert f"once all answer: testbed down small; if that will never be: rm {record.note('small')}" in err
    a = underlay.hosts["a"]
    assert not a.engine.boxes and not a.engine.network_specs and not a.devices
    assert run("down", "small")[0] == 3  # as long as it is gone
    code, _, err = run("status", "small")
    assert code == 3 and "no engine that answers has anything of lab small; engine b" in err
    underlay.engines["b"].gone = False
    assert run("down", "small")[0] == 0
    assert_nothing_is_left(underlay)
    assert run("down", "small")[0] == 1


def test_down_all_removes_the_rest_as_well(run: Run, underlay: Underlay, up_on: Up) -> None:
    up_on()
    record.forget("small")  # as on another machine than that of `up`
    underlay.engines["b"].gone = True
    remove_labs(join(underlay, Told()), "small")
    underlay.engines["b"].gone = False
    assert run("down", "--all")[0] == 0
    assert_nothing_is_left(underlay)


def test_wires_that_are_cut_while_a_lab_runs(run: Run, underlay: Underlay, up_on: Up) -> None:
    up_on()
    underlay.blocked = {("b", "a")}
    code, out, err = run("status", "small")
    assert code == 0 and "middle" in out
    assert err == "engines b and a do not reach each other: nothing from b arrived at a (192.0.2.1)"
    underlay.blocked.clear()
    underlay.hosts["b"].engine.box("small_vtep").stop()
    assert run("status", "small")[2] == "engine b: what lays the wires of lab small does not run"


def test_an_engine_that_goes_away_is_named_once_and_down_ends_on_the_rest(
    underlay: Underlay, told: Told, up_on: Up
) -> None:
    up_on()
    underlay.engines["b"].gone = True
    joined = join(underlay, told)
    told.said.clear()
    lab = find_lab(joined, "small")
    assert [*lab.nodes] == ["west"]
    with pytest.raises(UnreachableError, match=r"engine b \(tcp://192.0.2.2\) does not answer"):
        joined.start_container("b/c1")
    remove_labs(joined, "small")
    assert told.said == ["engine b (tcp://192.0.2.2) does not answer: what is there is left out"]
    assert joined.lost == {"b": "tcp://192.0.2.2"}
    a = underlay.hosts["a"]
    assert not a.engine.boxes and not a.engine.network_specs and not a.devices


def test_an_engine_that_goes_away_between_two_calls(
    underlay: Underlay, joined: JoinedEngine, told: Told, up_on: Up
) -> None:
    up_on()
    east = find_lab(joined, "small").node("east")
    told.said.clear()
    underlay.engines["b"].gone = True
    with pytest.raises(UnreachableError, match=r"^engine b \(tcp://192.0.2.2\) does not answer$"):
        joined.execute(east.id, ["true"])
    assert [*find_lab(joined, "small").nodes] == ["west"]
    assert told.said == ["engine b (tcp://192.0.2.2) does not answer: what is there is left out"]


def test_an_engine_that_goes_away_during_up(underlay: Underlay, up_on: Up) -> None:
    def vanish(subject: str) -> None:
        underlay.engines["b"].gone = subject.endswith("-east")

    underlay.engines["b"].failures["create_container"] = vanish
    with pytest.raises((EngineError, ErrorGroup)):
        up_on()
    a = underlay.hosts["a"]
    assert not a.engine.boxes and not a.engine.network_specs and not a.devices


# What `doctor` finds


def test_doctor_tries_the_way_between_engines(
    run: Run, underlay: Underlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbed.lab.doctor_engines.node_image_name", lambda: IMAGE)
    monkeypatch.setattr("testbed.lab.doctor_engines.prepare_image", prepared)
    both = ("--engine", "a=tcp://192.0.2.1", "--engine", "b=tcp://192.0.2.2")
    code, out, _ = run("doctor", *both)
    assert code == 0 and "UDP port 4789 is open between the hosts, and links have MTU 1450" in out
    assert_nothing_is_left(underlay)
    underlay.blocked = {("a", "b")}
    code, out, _ = run("doctor", *both)
    assert code == 3 and "nothing from a arrived at b" in out
    assert_nothing_is_left(underlay)
    underlay.engines["b"].gone = True
    code, out, _ = run("doctor", *both)
    assert code == 3 and "engine b: no container engine answers" in out
    assert run("doctor", "--engine", "a=tcp://192.0.2.1")[0] == 2


def prepared(engine: JoinedEngine, say: object, detail: object) -> str:
    engine.vtep_image = IMAGE
    return IMAGE


# Which commands bring labs up on several engines


@pytest.mark.parametrize(
    "command",
    [
        ("up", "plain-mip"),
        ("verify", "scenario-2.1"),
        ("matrix", "--scenario", "scenario-2.1"),
        ("solutions", "nothing", "--guideline", "5.6"),
        ("measure", "handoff", "plain-mip"),
    ],
)
def test_commands_that_take_engines(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []

    def choose(options: object, labs: object, say: object) -> None:
        asked.append(options)
        raise EngineError("that is enough")

    monkeypatch.setattr("testbed.engine.members.choose_engine", choose)
    assert main([*command, "--engine", "a=tcp://192.0.2.1", "--engine", "b=lab-2"]) == 3
    assert asked == [["a=tcp://192.0.2.1", "b=lab-2"]]
