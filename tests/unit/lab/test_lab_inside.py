"""What is done with a running lab: status, control sockets, logs, moves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lab_world import IMAGE, MOBILE, EndingSession

from testbed.data import data_dir
from testbed.engine.api import EngineError, UnreachableError
from testbed.engine.fake import FakeContainer, FakeEngine
from testbed.errors import NotReadyError, TestbedError, UsageError
from testbed.lab import logs
from testbed.lab.addresses import DEFAULT_POOL
from testbed.lab.daemons import ask, ask_all
from testbed.lab.down import remove_labs
from testbed.lab.inside import run_inside
from testbed.lab.logs import read_logs
from testbed.lab.move import move
from testbed.lab.state import ActualLab, find_lab, read_labs
from testbed.lab.status import lab_status
from testbed.lab.up import bring_up
from testbed.topology.load import load_topology
from testbed.topology.loaded import LoadedTopology

Output = tuple[bytes, bytes, int]


@pytest.fixture
def lab(engine: FakeEngine, load: Callable[..., LoadedTopology]) -> ActualLab:
    bring_up(engine, load(MOBILE), lab="mip", image=IMAGE, pool=DEFAULT_POOL)
    return find_lab(engine, "mip")


def lines(*messages: object) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def answering(reply: Callable[[FakeContainer, bytes], Output], engine: FakeEngine) -> list[tuple[str, ...]]:
    commands: list[tuple[str, ...]] = []

    def command(box: FakeContainer, words: Sequence[str], stdin: bytes) -> Output:
        commands.append((box.spec.hostname, *words))
        return reply(box, stdin)

    engine.command = command
    return commands


def test_asking_a_service(engine: FakeEngine, lab: ActualLab) -> None:
    commands = answering(lambda box, stdin: (lines({"ok": True, "echo": json.loads(stdin)}), b"", 0), engine)
    assert ask(engine, lab.nodes["ha"], "home-agent", {"op": "state"}) == {
        "ok": True,
        "echo": {"op": "state"},
    }
    assert commands == [("ha", "socat", "-T", "10", "-", "UNIX-CONNECT:/run/testbed/home-agent.sock")]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ((lines({"ok": False, "error": "unknown op"}), b"", 0), "roam of mn refuses state: unknown op"),
        ((b"", b"socat: No such file or directory\n", 1), "roam of mn does not answer: socat: No such file"),
        ((b"", b"", 0), "roam of mn does not answer: it hung up"),
        ((b"garbage\n", b"", 0), "roam of mn sent no JSON: b'garbage'"),
    ],
)
def test_a_service_that_does_not_answer(
    engine: FakeEngine, lab: ActualLab, output: Output, message: str
) -> None:
    answering(lambda box, stdin: output, engine)
    with pytest.raises(TestbedError) as error:
        ask(engine, lab.nodes["mn"], "roam", {"op": "state"})
    assert error.value.message.startswith(message)


def test_asking_all_services_of_a_node(engine: FakeEngine, lab: ActualLab) -> None:
    output = lines({"service": "mobile-node", "reply": {"ok": True, "backend": "tun"}})
    output += lines({"service": "roam", "reply": None}) + b'{"service": "cut off'
    commands = answering(lambda box, stdin: (output, b"", 0), engine)
    assert ask_all(engine, lab.nodes["mn"]) == {"mobile-node": {"ok": True, "backend": "tun"}, "roam": None}
    assert len(commands) == 1


def test_status(engine: FakeEngine, lab: ActualLab) -> None:
    def reply(box: FakeContainer, stdin: bytes) -> Output:
        services: dict[str, object] = {}
        if box.spec.hostname == "mn":
            services = {"roam": {"ok": True, "network": "hotspot", "state": "registered"}}
        if box.spec.hostname == "ha":
            services = {"home-agent": {"ok": True, "backend": "kernel"}}
        return lines(*({"service": name, "reply": state} for name, state in services.items())), b"", 0

    commands = answering(reply, engine)
    engine.box("cn").stop(3)
    status = lab_status(engine, find_lab(engine, "mip"))
    assert (status.name, status.topology, status.running, len(status.nodes)) == ("mip", "plain-mip", 5, 6)
    facts = status.to_dict()
    json.dumps(facts)
    assert facts["backends"] == {"ha": {"home-agent": "kernel"}}
    assert facts["nodes"]["cn"]["status"] == "Exited (3)"
    assert facts["nodes"]["ha"]["links"] == {"internet": "203.0.113.40/32", "home": "192.0.2.1/24"}
    assert facts["networks"]["home"]["subnet"] == "192.0.2.0/24"
    assert status.mobile["mn"] is not None and status.mobile["mn"]["network"] == "hotspot"
    assert "cn" not in [command[0] for command in commands]
    assert status.suggestions() == [
        "testbed exec mip mn -- ping -c 3 cn",
        "testbed move mip mn hotel",
        "testbed status mip",
    ]
    commands.clear()
    assert lab_status(engine, lab, ask=["mn"]).mobile
    assert {command[0] for command in commands} == {"mn"}


def test_roles_of_ones_own_are_taken_for_what_they_act_as(engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "roles").mkdir()
    for role in ("correspondent", "hub"):
        text = (data_dir("templates") / "roles" / f"{role}.yaml").read_text()
        text = text.replace(f"name: {role}", f"name: x-{role}\nacts-as: [{role}]")
        (tmp_path / "roles" / f"x-{role}.yaml").write_text(text)
    file = tmp_path / "mine.yaml"
    file.write_text(MOBILE.replace("[correspondent]", "[x-correspondent]").replace("hub]", "x-hub]"))
    topology = load_topology(str(file), templates=tmp_path)
    bring_up(engine, topology, lab="mip", image=IMAGE, pool=DEFAULT_POOL)
    lab = find_lab(engine, "mip")
    assert lab.hubs == {"internet": "core"}
    assert lab_status(engine, lab, ask=[]).suggestions()[0] == "testbed exec mip mn -- ping -c 3 cn"


def test_status_of_a_node_that_cannot_be_asked(engine: FakeEngine, lab: ActualLab) -> None:
    engine.failures["execute"] = lambda id: TestbedError("no exec today")
    status = lab_status(engine, lab)
    assert {node.problem for node in status.nodes} == {"no exec today"}


def test_move(engine: FakeEngine, lab: ActualLab) -> None:
    events: list[dict[str, Any]] = [{"event": "link", "ms": 3.1}, {"event": "settled", "state": "registered"}]
    answering(lambda box, stdin: (lines({"ok": True}, *events, {"event": "later"}), b"", 0), engine)
    assert list(move(engine, lab, "mn", "hotel")) == events


@pytest.mark.parametrize(
    ("node", "network", "message", "hint"),
    [
        ("mn", "hotl", "mn has no network hotl to attach to", "did you mean hotel?"),
        ("cn", "hotel", "cn is not a mobile node", "mobile nodes of lab mip: mn"),
        ("mm", "hotel", "lab mip has no node mm", "did you mean mn?"),
    ],
)
def test_moves_that_cannot_be(
    engine: FakeEngine, lab: ActualLab, node: str, network: str, message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as error:
        list(move(engine, lab, node, network))
    assert (error.value.message, error.value.hint) == (message, hint)


def test_a_manager_that_goes_away(engine: FakeEngine, lab: ActualLab) -> None:
    answering(lambda box, stdin: (lines({"ok": True}, {"event": "link"}), b"", 0), engine)
    with pytest.raises(TestbedError, match="connection manager of mn went away"):
        list(move(engine, lab, "mn", "hotel"))


# Logs


def test_logs_of_all_nodes_in_order_of_time(engine: FakeEngine, lab: ActualLab) -> None:
    for number in range(3):
        for node in ("ha", "cn"):
            engine.box(node).write(f"{node} says {number}", "stderr")
            time.sleep(0.001)
    written = engine.box("ha").lines
    written[-1], written[-2] = written[-2], written[-1]  # as an engine does with two outputs of a container
    read = list(read_logs(engine, lab.nodes))
    assert [each.line.time for each in read] == sorted(each.line.time for each in read)
    assert [each.line.text for each in read if each.line.stream == "stderr"] == [
        f"{node} says {number}" for number in range(3) for node in ("ha", "cn")
    ]
    assert {each.node for each in read} == set(lab.nodes)


def test_events_alone(engine: FakeEngine, lab: ActualLab) -> None:
    engine.box("ha").write("words", "stderr")
    read = list(read_logs(engine, {"ha": lab.nodes["ha"]}, events=True))
    assert [(each.event.source, each.event.name) for each in read if each.event] == [
        ("init", "configured"),
        ("home-agent", "ready"),
    ]
    assert len(read) == 2


def test_following_in_order_until_nodes_stop(
    engine: FakeEngine, lab: ActualLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: 0.0))  # no line comes too late
    seen: list[str] = []

    def read() -> None:
        seen.extend(each.line.text for each in read_logs(engine, lab.nodes, follow=True))

    for number in range(4):
        engine.box("ha" if number % 2 else "cn").write(str(number), "stderr")
        time.sleep(0.002)
    reader = threading.Thread(target=read)
    reader.start()  # a node's lines come one after the other
    for box in engine.boxes.values():
        box.stop()
    reader.join(20)
    assert [text for text in seen if text.isdigit()] == ["0", "1", "2", "3"]


def test_following_ends_with_the_engine(engine: FakeEngine, lab: ActualLab) -> None:
    seen = []
    with pytest.raises(UnreachableError, match=r"^the engine at memory .* does not answer any more$"):
        for each in read_logs(engine, {"ha": lab.nodes["ha"]}, follow=True):
            seen.append(each)
            engine.gone = True
            with engine.box("ha").changed:
                engine.box("ha").changed.notify_all()
    assert seen


def test_labs_that_are_not_there(engine: FakeEngine, lab: ActualLab) -> None:
    with pytest.raises(UsageError, match="there is no lab mop") as error:
        find_lab(engine, "mop")
    assert error.value.hint == "did you mean mip?"
    remove_labs(engine, None)
    assert read_labs(engine) == {}
    for name, could in (
        ("plain-mip", ": testbed up plain-mip"),
        ("mip", "; testbed list names what can be brought up"),
    ):
        with pytest.raises(UsageError) as error:
            find_lab(engine, name)
        assert error.value.hint == f"no lab is up{could}"


class Hanging(EndingSession):
    """A command that ends only when its session is closed."""

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        yield "stdout", b"so far\n"
        self.ended.wait(5)
        raise EngineError("the connection was closed")


def test_a_command_that_does_not_end_is_an_error(
    engine: FakeEngine, lab: ActualLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "execute", lambda *_, **__: Hanging())
    with pytest.raises(
        NotReadyError, match=r"ha: cat /proc/kmsg has not ended after 0\.05 s(.|\n)*testbed logs mip ha"
    ):
        run_inside(engine, lab.nodes["ha"], ["cat", "/proc/kmsg"], within=0.05)
