from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from lab_world import IMAGE

from testbed.engine import names
from testbed.engine.api import Container, EngineError
from testbed.engine.fake import FakeContainer, FakeEngine
from testbed.errors import UsageError
from testbed.lab import doctor
from testbed.lab.archive import node_archive
from testbed.lab.describe import describe
from testbed.lab.events import parse_event
from testbed.lab.lock import lab_lock
from testbed.lab.secrets import lab_secrets, secrets_file, used_secrets
from testbed.lab.state import ActualLab
from testbed.render import RenderedFile, Secrets


@pytest.mark.parametrize("name", ["a", "scenario-2.1", "x1.y2-z3", "a" * 40])
def test_lab_names(name: str) -> None:
    assert names.check_lab_name(name) == name
    assert names.container_name(name, "mn") == f"testbed-{name}-mn"


@pytest.mark.parametrize("name", ["", "2.1", "A", "a_b", "a--b", "a-", "a b", "a/b", "a" * 41, "a\n"])
def test_names_that_no_lab_may_have(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be called"):
        names.check_lab_name(name)


def test_an_archive_has_files_with_their_modes_and_only_folders_of_ours() -> None:
    files = {
        "/etc/testbed/services/x/run": RenderedFile("#!/bin/sh\n", 0o755),
        "/etc/secret": RenderedFile("geheim ü", 0o600),
    }
    with tarfile.open(fileobj=io.BytesIO(node_archive(files))) as archive:
        members = {member.name: (member.isdir(), member.mode, member.uid) for member in archive}
        content = archive.extractfile("etc/secret")
        assert content is not None
        assert content.read().decode() == "geheim ü"
    assert members == {
        "etc/secret": (False, 0o600, 0),
        "etc/testbed": (True, 0o755, 0),
        "etc/testbed/services": (True, 0o755, 0),
        "etc/testbed/services/x": (True, 0o755, 0),
        "etc/testbed/services/x/run": (False, 0o755, 0),
    }
    assert list(members)[:2] == ["etc/secret", "etc/testbed"]


def test_every_lab_gets_secrets_of_its_own() -> None:
    first, second = lab_secrets(FakeEngine(), []), lab_secrets(FakeEngine(), [])
    assert first != second
    assert len(bytes.fromhex(first.mobility_key)) == 16


def test_a_node_keeps_the_secrets_that_its_files_contain() -> None:
    values = Secrets("a-psk", "a-key")
    used = used_secrets(values, {"/etc/x": RenderedFile("nothing"), "/etc/y": RenderedFile("psk = a-psk")})
    assert used == {"ike_psk": "a-psk"}
    assert secrets_file(used).mode == 0o600


def test_a_file_that_nobody_else_may_read_is_never_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "key"
    RenderedFile("old", 0o644).write(path)
    RenderedFile("new", 0o600).write(path)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)


@pytest.mark.parametrize(
    ("environment", "who"),
    [({"TESTBED_OWNER": "ci"}, "ci"), ({"SUDO_USER": "anna"}, "anna@box"), ({}, "root@box")],
)
def test_whose_a_lab_is(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], who: str) -> None:
    for variable in ("TESTBED_OWNER", "SUDO_USER"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    assert names.owner() == who


@pytest.mark.parametrize(
    "line", ["", "plain words", "{", "[1]", '{"event": 1, "source": "x"}', '{"event": "ready"}', "{}"]
)
def test_lines_that_are_no_events(line: str) -> None:
    assert parse_event(line, 0.0) is None


def test_events() -> None:
    event = parse_event('{"event":"ready","source":"charon","monotonic":3.5}', 7.0)
    assert event is not None
    assert (event.name, event.source, event.time, event.fields) == (
        "ready",
        "charon",
        7.0,
        {"monotonic": 3.5},
    )


def test_one_change_of_a_lab_at_a_time() -> None:
    with lab_lock("a", "engine"):
        with lab_lock("b", "engine"), lab_lock("a", "other engine"):
            pass
        with pytest.raises(UsageError, match="another testbed is changing lab a"), lab_lock("a", "engine"):
            pass
    with lab_lock("a", "engine"):
        pass


def test_a_missing_node_is_told_with_the_nearest() -> None:
    container = Container("id", "testbed-x-gw", {names.NODE: "gw"}, "exited", "Exited (1)", "")
    lab = ActualLab("x", (container,), ())
    assert lab.node("gw") is container
    with pytest.raises(UsageError, match="lab x has no node gv") as error:
        lab.node("gv")
    assert error.value.hint == "did you mean gw?"
    with pytest.raises(UsageError, match=r"does not run \(Exited \(1\)\)"):
        lab.running_node("gw")


@pytest.mark.parametrize(
    ("service", "state", "words"),
    [
        ("charon", {"ok": True}, ""),
        ("roam", None, "does not answer"),
        ("roam", {"network": None}, "attached to no network"),
        ("roam", {"network": "hotel", "moving": True}, "on its way to hotel"),
        (
            "roam",
            {
                "network": "hotel", "state": "registered", "address": "198.51.100.70/26", "how": "dhcp",
                "ipsec": {"up": True, "inner": "10.0.250.1"}, "detail": "co-located",
            },
            "registered on hotel, address 198.51.100.70/26 (dhcp), "
            "ESP up with inner address 10.0.250.1: co-located",
        ),
        (
            "mobile-node",
            {"state": "registered", "care_of": "10.0.250.1", "lifetime_left": 588.4},
            "registered, care-of 10.0.250.1 (588 s left)",
        ),
        ("home-agent", {"bindings": []}, "no binding"),
        (
            "home-agent",
            {"bindings": [{"home_address": "10.0.1.100", "care_of_addresses": ["10.0.2.1"]}]},
            "10.0.1.100 at 10.0.2.1",
        ),
        (
            "home-agent",
            {"bindings": [{"home_address": "10.0.1.100", "nai": "a@b.c", "care_of_addresses": ["10.0.2.1"]}]},
            "10.0.1.100 (a@b.c) at 10.0.2.1",
        ),
        ("home-agent", {"mobile_nodes": 5000, "bindings": [
            {"home_address": f"10.64.0.{n}", "care_of_addresses": ["100.64.0.1"]} for n in range(256)]},
         "".join(f"10.64.0.{n} at 100.64.0.1; " for n in range(8)) + "4992 more"),
        ("bulk-nodes", {"nodes": 9, "registered": 7, "networks": {
            "hotel": {"attached": 8, "registered": 7}, "airport": {"attached": 0, "registered": 0}}},
         "7 of 9 registered (7 of 8 on hotel)"),
        ("foreign-agent", {"visitors": [{"home_address": "10.0.1.100", "nai": None, "lifetime_left": 5}]},
         "visited by 10.0.1.100 (5 s left)"),
        ("foreign-agent", {}, "no visitor"),
        ("foreign-agent", {"links": {"cafe": "a", "lounge": "b"},
         "visitors": [{"home_address": "10.0.1.100", "interface": "cafe"}]}, "visited by 10.0.1.100 on cafe"),
        ("second-agent", {"role": "home-agent", "bindings": []}, "no binding"),
        ("mobile-node", {"state": "registered", "care_of": "10.0.2.1", "former_care_of": ["10.0.3.1"]},
         "registered, care-of 10.0.2.1, still at 10.0.3.1"),
        ("relay", {"interface": "internet", "active": False}, "internet as it is"),
        ("relay", {"interface": "internet", "active": True, "delay_ms": 40.0, "loss": 0.5},
         "internet: delay 40 ms, loss 0.5 %"),
    ],
)  # fmt: skip
def test_daemons_in_words(service: str, state: dict[str, object] | None, words: str) -> None:
    assert describe(service, state) == words


def test_doctor_advises_no_module_that_changes_nothing(engine: FakeEngine) -> None:
    def answer(box: FakeContainer) -> None:
        for name in ("ipip", "esp", "netem", "fou"):
            box.write(f"{name}|Operation not supported")
        box.stop()

    engine.behave = answer
    advised = {one.name for one in doctor._container(engine, IMAGE) if one.level is doctor.Level.WARN}
    assert {"ipip", "esp"} <= advised and "fou" not in advised  # no data plane takes that


def test_doctor_says_what_keeps_a_container_from_starting(engine: FakeEngine) -> None:
    for words, remedy in (
        ('error gathering device information: stat "/dev/net/tun": no such file', "module tun"),
        ("crun: setrlimit `RLIMIT_NPROC`: Operation not permitted", "containers.conf"),
    ):
        engine.failures["start_container"] = lambda _, words=words: EngineError(words)  # type: ignore[misc]
        (check,) = doctor._container(engine, IMAGE)
        assert check.level is doctor.Level.FAIL and remedy in str(check.fix)


def test_doctor_names_what_a_wire_would_pass(engine: FakeEngine) -> None:
    said: list[str] = []

    def answer(box: FakeContainer) -> None:
        if box.spec.command and "ping" in " ".join(box.spec.command):
            for line in said:
                box.write(line)
            box.stop()

    engine.behave = answer
    assert doctor._wire(engine, IMAGE).level is doctor.Level.OK
    said.append("255.255.255.255")
    check = doctor._wire(engine, IMAGE)
    assert check.level is doctor.Level.WARN and "255.255.255.255" in check.detail
    assert "bridge-nf-call-iptables" in str(check.fix)
    engine.failures["create_network"] = lambda _: EngineError("no room")
    assert "no room" in doctor._wire(engine, IMAGE).detail
    assert not engine.networks() and not engine.boxes


def test_doctor_reads_the_limit_that_the_container_had(engine: FakeEngine) -> None:
    for processes, level in (("512", doctor.Level.OK), ("max", doctor.Level.WARN), ("", doctor.Level.WARN)):
        engine.behave = lambda box, said=f"processes|{processes}": (box.write(said), box.stop())  # type: ignore[misc]
        (check,) = (one for one in doctor._container(engine, IMAGE) if one.name == "limits")
        assert check.level is level
