"""The lab commands of the command line, on the engine in memory."""

from __future__ import annotations

import _thread
import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lab_world import MIP, SMALL, Manager, Run

from testbed.cli.labs import (
    complete_attachment,
    complete_impairment,
    complete_lab,
    complete_node,
    complete_place,
    narrated,
)
from testbed.cli.output import as_called, console
from testbed.engine.api import EngineError
from testbed.engine.fake import FakeEngine
from testbed.engine.names import owner
from testbed.lab.doctor import Check, Level
from testbed.topology.load import load_topology


def test_up_prints_what_one_needs_to_go_on(run: Run) -> None:
    code, out, err = run("up", MIP)
    assert code == 0
    assert "203.0.113.40/32" in out and "192.0.2.100" in out and "moves between hotspot, hotel, home" in out
    assert "mn: registered on hotspot, agent 198.51.100.1" in out
    tried = out[out.index("Try next:") :].splitlines()[1:]
    assert tried == [
        "  testbed exec plain-mip mn -- ping -c 3 cn",
        "  testbed move plain-mip mn hotel",
        "  testbed status plain-mip",
    ]
    assert "lab plain-mip: creating 6 nodes on 4 networks" in err and "lab plain-mip ready in" in err
    code, _, err = run("up", MIP)
    assert (code, err) == (0, "\nlab plain-mip was up already, nothing to do\n")


def test_up_says_how_a_mobile_node_that_reached_nobody_tries_again(run: Run, engine: FakeEngine) -> None:
    manager = engine.command
    assert isinstance(manager, Manager)
    manager.roam |= {"state": "unregistered", "detail": "ike-timeout", "timeline": {"data": None}}
    err = run("up", MIP)[2]
    assert re.search(
        r"is up after [\d.]+ s, but mn does not reach its correspondent: the VPN gateway did not "
        r"answer IKE in time \(RFC 7296 §2.1\); testbed capture plain-mip mn/hotspot; "
        r"testbed move plain-mip mn hotspot tries again\n$",
        err,
    )


def test_a_limit_of_processors_is_lifted(run: Run, engine: FakeEngine) -> None:
    def limits() -> set[float | None]:
        return {box.spec.cpus for box in engine.boxes.values()}

    for options, limit in (("--cpus=0.5", 0.5), ("--cpus=0", None), ("--cpus=2", 2.0), ("--reset", None)):
        assert run("up", MIP, options)[0] == 0
        assert limits() == {limit}
    code, _, err = run("up", MIP, "--cpus", "0.001")
    assert code == 2 and "0.001 is less than 0.01; 0 means no limit" in err


def test_hints_name_the_command_that_was_called(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_COMMAND", "./tb")
    out = run("up", MIP)[1]
    assert out[out.index("Try next:") :].splitlines()[1] == "  ./tb exec plain-mip mn -- ping -c 3 cn"
    assert "hint: ./tb status lists the labs\n" in run("down")[2]
    run("down", "--all")
    assert run("status")[2] == "no lab is up; ./tb list names what can be brought up\n"
    monkeypatch.setenv("TESTBED_COMMAND", "/a checkout/tb")
    assert "; '/a checkout/tb' list names" in run("status")[2]


def test_usage_names_the_command_that_was_called(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Try 'testbed up -h'" in run("up", "--nonsense")[2]
    monkeypatch.setenv("TESTBED_COMMAND", "./tb")
    assert "Usage: ./tb up" in run("up", "--help")[1]
    assert "Try './tb up -h'" in run("up", "--nonsense")[2]


def test_doctor_names_the_command_that_was_called(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_COMMAND", "./tb")
    found = [Check("engine", Level.FAIL, "none", "testbed doctor --fix")]
    monkeypatch.setattr("testbed.lab.doctor.examine", lambda say, **options: found)
    code, out, _ = run("doctor")
    assert code == 3 and "./tb doctor --fix" in out


def test_a_log_without_a_terminal_hears_every_few_seconds(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbed.cli.labs.HEARTBEAT", 0.05)
    monkeypatch.setattr("testbed.cli.output.verbosity.level", 0)
    heard = ""
    with narrated() as progress:
        progress.show("waiting for mn")
        end = time.monotonic() + 30
        while heard.count("waiting for mn (0 s)\n") < 2 and time.monotonic() < end:
            heard += capfd.readouterr().err
    assert heard.count("waiting for mn (") >= 2


@pytest.mark.parametrize("text", ["another testbed is bringing up", "/opt/testbed up", "testbed listens"])
def test_what_only_looks_like_a_command_stays(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_COMMAND", "./tb")
    assert as_called(text) == text


def test_up_quietly_and_as_json(run: Run) -> None:
    code, out, err = run("up", MIP, "--name", "mine", "-q", "-o", "json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert (data["schema_version"], data["lab"], data["topology"], data["created"]) == (
        1,
        "mine",
        "plain-mip",
        10,
    )
    assert data["nodes"]["mn"]["services"]["roam"]["state"] == "registered"


def test_up_takes_options_of_the_topology(run: Run, engine: FakeEngine) -> None:
    assert run("up", MIP, "--attach", "hotel", "--set", "network.internet.delay=40ms")[0] == 0
    assert 'attach = "hotel"' in engine.box("mn").file("/etc/testbed/roam.toml")
    assert "delay-ms = 40.0" in engine.box("core").file("/etc/testbed/relay.toml")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((MIP, "--stack", "mip-onyl"), 2, "--stack mip-onyl: expected one of mip-only, got"),
        ((MIP, "--attach", "hotle"), 2, "did you mean hotel?"),
        ((MIP, "--set", "option.stack=mip-onyl"), 2, "--set option.stack=mip-onyl: expected"),
        ((MIP, "--set", "option.stak=mip-only"), 2, "did you mean stack?"),
        ((MIP, "--set", "network.internet.delay=soon"), 2, "--set network.internet.delay=soon: "),
        (("plain-mop",), 2, "did you mean plain-mip?"),
        ((MIP, "--name", "X"), 2, "a lab cannot be called 'X'"),
        ((MIP, "--timeout", "soon"), 2, "--timeout soon"),
        ((MIP, "--pool", "everything"), 2, "the address pool 'everything' is not an IPv4 prefix"),
        ((MIP, "--pool", "198.18.0.0/29"), 3, "the address pool has no room: a lab takes some 32 addresses"),
    ],
)
def test_up_refuses(
    run: Run, engine: FakeEngine, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result, out, err = run("up", *arguments)
    assert (result, out) == (code, "")
    assert message in err and "Traceback" not in err
    assert not engine.boxes and not engine.network_specs


def test_up_under_no_name_at_all(run: Run, engine: FakeEngine) -> None:
    code, _, err = run("up", MIP, "--name", "")
    assert code == 2 and "a lab cannot be called ''" in err and not engine.boxes


def test_up_not_ready_in_time(run: Run, engine: FakeEngine) -> None:
    engine.behave = lambda box: box.event("configured", "init")
    code, _, err = run("up", MIP, "--timeout", "100ms")
    assert code == 5
    assert "ha is not ready: home-agent not started" in err and "testbed down plain-mip" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_interrupted(run: Run, engine: FakeEngine, number: signal.Signals) -> None:
    engine.behave = lambda box: None

    def interrupt() -> None:
        while not engine.boxes:
            time.sleep(0.005)
        time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    code, _, err = run("up", MIP)
    assert code == 130
    assert "lab plain-mip: removed what was made" in err
    assert not engine.boxes and not engine.network_specs


def test_down_interrupted_says_how_to_go_on(run: Run, engine: FakeEngine) -> None:
    run("up", MIP)
    once = iter([True])

    def interrupt(name: str) -> None:
        if next(once, False):
            _thread.interrupt_main()

    engine.failures["remove_container"] = interrupt
    code, _, err = run("down", "plain-mip")
    assert code == 130 and "hint: testbed down plain-mip" in err and engine.boxes
    assert run("down", "plain-mip")[0] == 0 and not engine.boxes


def test_status(run: Run) -> None:
    assert run("status")[0] == 0
    run("up", MIP)
    code, out, _ = run("status")
    assert code == 0 and out.splitlines()[1].split() == [
        "plain-mip",
        "plain-mip",
        "6",
        "of",
        "6",
        "running",
        "4",
    ]
    code, out, _ = run("status", "plain-mip")
    assert code == 0 and "Fake Engine 1.0" in out and "registered on hotspot" in out
    data = json.loads(run("status", "plain-mip", "-o", "json")[1])
    assert data["engine"]["api"] == "1.41" and data["networks"]["home"]["domain"] == "operator"
    assert json.loads(run("status", "-o", "json")[1])["labs"] == [
        {
            "lab": "plain-mip",
            "topology": "plain-mip",
            "nodes": 6,
            "running": 6,
            "networks": 4,
            "owner": owner(),
        }
    ]
    code, _, err = run("status", "plain-map")
    assert code == 2 and "did you mean plain-mip?" in err


def test_status_of_what_a_killed_up_left(run: Run, engine: FakeEngine) -> None:
    run("up", MIP)
    for id in list(engine.boxes):
        engine.remove_container(id)
    code, out, _ = run("status", "plain-mip")
    assert code == 0 and "192.0.2.0/24" in out
    code, out, _ = run("status")
    assert code == 0 and "0 of 0 running" in out


def test_move(run: Run) -> None:
    run("up", MIP)
    code, out, _ = run("move", "plain-mip", "mn", "hotel")
    assert code == 0
    assert out.splitlines()[1].split() == ["link", "3.2"] and out.splitlines()[3].split() == ["ike", "-"]
    assert "mn: registered on hotel: so it is" in out
    code, out, _ = run("move", "plain-mip", "mn", "home", "-o", "json")
    data = json.loads(out)
    assert code == 1 and data["state"] == "unregistered" and data["timeline"]["data"] == 22.0
    code, _, err = run("move", "plain-mip", "mn", "hotl")
    assert code == 2 and "did you mean hotel?" in err


def test_exec(run: Run) -> None:
    run("up", MIP)
    assert run("exec", "plain-mip", "mn", "--", "false", "-q") == (7, "out\n", "err\n")
    assert run("exec", "plain-mip", "mn", "false") == (7, "out\n", "err\n")
    code, _, err = run("exec", "plain-mip", "mn", "--")
    assert code == 2 and "no command given" in err
    code, _, err = run("exec", "plain-mip", "nm", "--", "true")
    assert code == 2 and "did you mean mn?" in err


def test_shell(run: Run) -> None:
    run("up", MIP)
    assert run("shell", "plain-mip", "mn")[0] == 0


def test_logs(run: Run, engine: FakeEngine) -> None:
    run("up", MIP)
    engine.box("ha").write("words of a daemon", "stderr")
    code, out, _ = run("logs", "plain-mip", "ha")
    assert code == 0
    assert [line.split("  ", 1)[1] for line in out.splitlines()] == [
        "ha  init configured",
        "ha  home-agent ready",
        "ha  words of a daemon",
    ]
    objects = [json.loads(line) for line in run("logs", "plain-mip", "-o", "json")[1].splitlines()]
    assert {each["node"] for each in objects} == {"core", "fa-hotspot", "hotel-router", "ha", "cn", "mn"}
    assert all(each["schema_version"] == 1 and "time" in each for each in objects)
    assert "words of a daemon" not in run("logs", "plain-mip", "--events")[1]
    assert len(run("logs", "plain-mip", "ha", "--tail", "1")[1].splitlines()) == 1
    assert run("logs", "plain-mip", "hq")[0] == 2


def test_down(run: Run, engine: FakeEngine) -> None:
    run("up", MIP)
    run("up", MIP, "--name", "second")
    code, out, err = run("down", "plain-mip")
    assert (code, out, err) == (0, "", "removed 6 nodes and 4 networks\n")
    code, _, err = run("down", "plain-mip")
    assert (code, err) == (1, "error: there is no lab plain-mip\n  hint: known: second\n")
    code, _, err = run("down", "plain-mip", "--if-exists")
    assert (code, err) == (0, "there is no lab plain-mip\n")
    code, out, _ = run("down", "--all", "-o", "json")
    assert code == 0 and len(json.loads(out)["containers"]) == 6
    assert not engine.boxes
    assert run("down", "--all")[0] == 0
    for arguments in ((), ("x", "--all")):
        code, _, err = run("down", *arguments)
        assert code == 2 and "name a lab, or give --all" in err


def test_down_all_takes_ones_own_labs(run: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_OWNER", "anna@box")
    run("up", MIP, "--name", "hers")
    monkeypatch.setenv("TESTBED_OWNER", "otto@box")
    assert "OWNER" in run("status")[1], "she owns one"
    run("up", MIP, "--name", "his")
    code, out, _ = run("status")
    assert code == 0 and "anna@box" in out and "otto@box" in out
    assert {one["lab"]: one["owner"] for one in json.loads(run("status", "-o", "json")[1])["labs"]} == {
        "hers": "anna@box",
        "his": "otto@box",
    }
    code, _, err = run("down", "--all")
    assert code == 0 and "removed 6 nodes and 4 networks" in err and "not known to be yours: hers" in err
    code, _, err = run("down", "hers")
    assert code == 2 and "lab hers belongs to anna@box" in err and "--all-users" in err
    assert {box.spec.labels["org.testbed.lab"] for box in engine.boxes.values()} == {"hers"}
    assert run("down", "--all", "--all-users")[0] == 0 and not engine.boxes


def test_completion(run: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    run("up", MIP)
    context: Any = SimpleNamespace(params={"lab": "plain-mip", "node": "mn"})
    assert complete_lab("pl") == ["plain-mip"]
    assert complete_node(context, "h") == ["ha", "hotel-router"]
    assert complete_attachment(context, "ho") == ["hotspot", "hotel", "home"]
    assert complete_place(context, "ho") == ["hotel-router", "home", "hotspot", "hotel"]
    assert complete_place(context, "mn/ho") == ["mn/hotspot", "mn/hotel", "mn/home"]
    assert complete_place(context, "nobody/") == []
    assert complete_impairment(context, "network.hom") == ["network.home."]
    assert complete_impairment(context, "network.home.d") == ["network.home.delay="]
    assert complete_impairment(SimpleNamespace(params={"lab": "none"}), "network.") == []  # type: ignore[arg-type]

    def nobody() -> FakeEngine:
        raise EngineError("nobody answers")

    monkeypatch.setattr("testbed.engine.connect.connect", nobody)
    assert complete_lab("") == []
    code, _, err = run("status")
    assert code == 3 and "nobody answers" in err


def test_a_topology_of_ones_own(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    code, out, _ = run("up", str(file), "--name", "own")
    assert code == 0
    assert out[out.index("Try next:") :].splitlines()[1:] == [
        "  testbed status own",
        "  testbed logs own --follow",
        "  testbed shell own east",
    ]
    file.unlink()
    assert run("down", "own")[0] == 0


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("topology", ["scenario-2.1", "scenario-2.5"])
def test_status_keeps_words_and_addresses_whole(
    run: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, topology: str, columns: int
) -> None:
    assert run("up", topology)[0] == 0
    inner, local, care_of = "10.0.250.17", "198.51.100.177", "203.0.113.240"
    roam = {"state": "registered", "network": "hotspot", "address": f"{local}/26", "how": "dhcp"}
    roam |= {"ipsec": {"up": True, "inner": inner}, "detail": f"co-located, care-of {inner}"}
    binding = {"home_address": "10.0.1.100", "care_of_addresses": [inner, care_of], "lifetime_left": 299.0}
    said = [("roam", roam), ("home-agent", {"bindings": [binding]}), ("mobile-node", {"care_of": inner})]
    replies = [json.dumps({"service": name, "reply": {"ok": True, **state}}).encode() for name, state in said]
    engine.command = lambda box, words, stdin: (b"\n".join(replies), b"", 0)
    monkeypatch.setenv("COLUMNS", str(columns))
    console.cache_clear()
    try:
        code, out, _ = run("status", topology)
    finally:
        console.cache_clear()
    assert code == 0
    words = set(re.split(r"[\s,()]+", out))
    loaded = load_topology(topology).topology
    for node in loaded.nodes.values():
        assert {*node.roles, *node.links, *node.attaches} <= words
        assert {str(address) for address in node.links.values()} <= {word.partition("/")[0] for word in words}
    assert {*loaded.nodes, *loaded.networks} <= words
    assert {inner, local, care_of, "10.0.1.100", "mobile-node", "home-agent"} <= {
        word.partition("/")[0].strip(":;") for word in words
    }
    assert {str(network.subnet) for network in loaded.networks.values()} <= words
    assert max(map(len, out.splitlines())) <= max(columns, max(map(len, words)))
