"""Moving a mobile node by a schedule: traces and their mistakes, moves at random, and time without drift."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from ipaddress import IPv4Address
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
from lab_world import MIP, EndingSession, Run

from testbed.document.values import AddressRange
from testbed.engine.api import ExecSession, Stream
from testbed.engine.fake import FakeEngine
from testbed.errors import TestbedError
from testbed.lab import walk as walking
from testbed.lab.trace import Step, random_steps, read_trace
from testbed.lab.walk import walk

NETWORKS = ("hotspot", "hotel", "home")


def trace(folder: Path, text: str) -> Path:
    file = folder / "trace.csv"
    file.write_text(text)
    return file


def test_a_trace(tmp_path: Path) -> None:
    text = "# by train\nseconds,network\n\n0,hotel\n 2.5 , hotspot\n2.5,home\n"
    steps = [Step(0.0, "hotel"), Step(2.5, "hotspot"), Step(2.5, "home")]
    assert read_trace(trace(tmp_path, text), NETWORKS) == steps


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        ("x,hotel", 1, "expected seconds, got 'x'"),
        ("  ,hotel", 3, "expected seconds, got ''"),
        ("-1,hotel", 1, "expected seconds from the beginning on, got -1"),
        ("nan,hotel", 1, "expected seconds from the beginning on, got nan"),
        ("4,hotel", 1, "4 s is before the move above, at 5 s"),
        ("6", 2, "expected a comma and a network"),
        ("6, hotle", 4, "no network 'hotle' to attach to\n  hint: did you mean hotel?"),
        ("6,", 3, "no network '' to attach to"),
        ("6,hotel,x", 8, "expected the end of the line behind the network"),
        ("seconds,network", 1, "expected seconds, got 'seconds'"),
    ],
)
def test_a_mistake_has_its_place(tmp_path: Path, line: str, column: int, words: str) -> None:
    file = trace(tmp_path, f"5,hotel\n{line}\n")
    with pytest.raises(TestbedError) as caught:
        read_trace(file, NETWORKS)
    assert str(caught.value).startswith(f"{file}:2:{column}: ") and words in str(caught.value)


def test_all_mistakes_at_once_and_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TestbedError) as caught:
        read_trace(trace(tmp_path, "x,hotel\n1\n"), NETWORKS)
    assert "trace.csv:1:1: " in str(caught.value) and "trace.csv:2:2: " in str(caught.value)
    with pytest.raises(TestbedError, match="no move"):
        read_trace(trace(tmp_path, "# nothing\n"), NETWORKS)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(TestbedError, match="not a text in UTF-8"):
        read_trace(tmp_path / "binary", NETWORKS)
    with pytest.raises(TestbedError, match=r"cannot read .*none: No such file"):
        read_trace(tmp_path / "none", NETWORKS)


def test_moves_at_random_can_be_repeated() -> None:
    first = list(islice(random_steps(NETWORKS, 7, 5.0), 200))
    assert first == list(random_steps(NETWORKS, 7, 5.0, 200))
    assert first != list(random_steps(NETWORKS, 8, 5.0, 200))
    assert [step.at for step in first] == [5.0 * number for number in range(200)]
    assert all(one.network != other.network for one, other in pairwise(first))
    assert {step.network for step in first} == {*NETWORKS}
    assert [step.network for step in random_steps(["hotel"], 1, 1.0, 2)] == ["hotel"] * 2


class World:
    """A clock, and moves that take a while by it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *takes: float) -> None:
        self.now = 1000.0
        self.takes = iter(takes)
        monkeypatch.setattr(walking, "move", self.move)

    def move(self, engine: object, lab: object, node: str, network: str) -> Generator[dict[str, Any]]:
        yield {"event": "move-started"}
        self.now += next(self.takes)
        yield {"event": "settled", "network": network, "state": "registered"}

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds + 0.002  # as sleeping takes always

    def walk(self, *steps: Step) -> list[tuple[float, float]]:
        none: Any = None
        made = walk(none, none, "mn", steps, clock=lambda: self.now, sleep=self.sleep)
        return [(round(one.began, 3), round(one.late, 3)) for one in made]


def test_a_schedule_does_not_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, *[0.3] * 1000)
    found = world.walk(*(Step(float(at), "hotel") for at in range(1000)))
    assert found[0] == (0.0, 0.0) and found[-1] == (999.002, 0.002)


def test_a_long_move_makes_the_next_late_and_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, 12.0, 0.1, 0.1, 0.1)
    found = world.walk(*(Step(at, "hotel") for at in (0.0, 5.0, 10.0, 15.0)))
    assert found == [(0.0, 0.0), (12.0, 7.0), (12.1, 2.1), (15.002, 0.002)]


def test_the_command_prints_what_came_of_each_move(run: Run, tmp_path: Path) -> None:
    run("up", MIP)
    trace(tmp_path, "0,hotel\n0.02,hotspot\n")
    code, out, err = run("roam", "plain-mip", "mn", "--trace", "trace.csv")
    assert (code, err) == (0, "2 moves, 0 without a registration\n")
    assert out.splitlines()[0] == "     0.0 s  mn: registered on hotel: so it is"
    assert out.splitlines()[1].strip() == "link 3.2, address 9.5, registration 20.0, data 22.0 ms"
    code, out, _ = run("roam", "plain-mip", "mn", "--random", "--every", "10ms", "--count", "6", "-o", "json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["at"] for line in lines] == [0.0, 0.01, 0.02, 0.03, 0.04, 0.05]
    assert all(line["lab"] == "plain-mip" and line["schema_version"] == 1 for line in lines)
    assert code == (1 if any(line["state"] == "unregistered" for line in lines) else 0)
    trace(tmp_path, "0,home\n")
    code, _, err = run("roam", "plain-mip", "mn", "--trace", "trace.csv")
    assert (code, err) == (1, "1 move, 1 without a registration\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("mn",), "give --trace FILE or --random"),
        (("mn", "--random", "--trace", "x"), "give --trace FILE or --random"),
        (("mn", "--trace", "x", "--seed", "2"), "belong to --random"),
        (("mn", "--random", "--every", "soon"), "--every soon: expected"),
        (("ha", "--random"), "ha is not a mobile node\n  hint: mobile nodes of lab plain-mip: mn"),
    ],
)
def test_what_the_command_refuses(run: Run, options: tuple[str, ...], words: str) -> None:
    run("up", MIP)
    code, out, err = run("roam", "plain-mip", *options)
    assert (code, out) == (2, "") and words in err


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--count", "9"), 130)])
def test_ctrl_c_ends_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: int
) -> None:
    run("up", MIP)
    moves = walking.move

    def interrupted(*arguments: Any) -> Generator[dict[str, Any]]:
        yield from moves(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(walking, "move", interrupted)
    found, out, err = run("roam", "plain-mip", "mn", "--random", "--seed", "3", *options)
    assert found == code and "registered on h" in out and "1 move, 0 without a registration" in err


HOMES = AddressRange(IPv4Address("10.64.0.10"), IPv4Address("10.64.0.109"))


def test_a_trace_of_a_crowd_says_which_part_moves_and_in_what_time(tmp_path: Path) -> None:
    text = "seconds,network,part,within\n0,hotel\n2,home,25%\n2,hotel,10.64.0.17, 500ms\n3,home,,5s\n"
    found = read_trace(trace(tmp_path, text), NETWORKS, HOMES)
    assert [(step.at, step.network, str(step.part or "all"), step.within) for step in found] == [
        (0.0, "hotel", "all", 0.0), (2.0, "home", "25%", 0.0),
        (2.0, "hotel", "10.64.0.17-10.64.0.17", 0.5), (3.0, "home", "all", 5.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        ("6,hotel,some", 9, "expected a share such as 25%, a home address, or a range"),
        ("6,hotel, 0%", 10, "expected a share such as 25%"),
        ("6,hotel,120%", 9, "got '120%'"),
        ("6,hotel,10.64.0.20-10.64.0.11", 9, "hint: write 10.64.0.11-10.64.0.20"),
        ("6,hotel,10.64.0.110", 9, "the crowd does not have all of 10.64.0.110"),
        ("6,hotel,10.64.0.9-10.64.0.12", 9, "hint: its home addresses: 10.64.0.10-10.64.0.109"),
        ("6,hotel,25%,5", 13, "hint: the units are us, ms, s"),
        ("6,hotel,25%,5s,x", 15, "expected the end of the line behind the time that the move takes"),
    ],
)
def test_a_mistake_about_a_crowd_has_its_place(tmp_path: Path, line: str, column: int, words: str) -> None:
    file = trace(tmp_path, f"5,hotel\n{line}\n")
    with pytest.raises(TestbedError) as caught:
        read_trace(file, NETWORKS, HOMES)
    assert str(caught.value).startswith(f"{file}:2:{column}: ") and words in str(caught.value)


class CrowdSession(EndingSession):
    """The control socket of a crowd, whose moves take a second by a clock of its own."""

    BEGAN = 5000.0
    ends = False  # with the answer to a request

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[dict[str, Any]] = []
        self.events: list[tuple[float, dict[str, Any]]] = []
        self.answers: list[dict[str, Any]] = []

    def send(self, data: bytes) -> None:
        request = json.loads(data)
        state = {"ok": True, "monotonic": self.BEGAN, "homes": ["10.64.0.10", "10.64.0.109"]}
        known = {"ok": True, "state": "registered", "care_of": "100.64.0.8", "lifetime_left": 595.2}
        if (answer := {"state": state, "node": known}.get(request["op"])) is not None:
            self.answers.append(answer)
            return
        self.sent.append(request)
        number, at, network = request.get("id", 0), request.get("at", 0.0), request["network"]
        if request.get("share") == 0.13:
            self.answers.append({"ok": False, "id": number, "error": "an unlucky share"})
            return
        self.answers.append({"ok": True, "id": number})
        if self.ends:
            return
        head = {"id": number, "network": network, "homes": ["10.64.0.10", "10.64.0.34"]}
        detail = {"state": "registered", "detail": "25 of 25 nodes registered", "requests": 26}
        self.events += [
            (at, {"event": "move-started", "monotonic": at + 0.25 * number, **head}),
            (at + 1, {"event": "settled", "monotonic": at + 1, **head, **detail}),
        ]
        self.events.sort(key=lambda each: each[0])

    def __iter__(self) -> Generator[tuple[Stream, bytes]]:
        while self.answers or self.events:
            message = self.answers.pop(0) if self.answers else self.events.pop(0)[1]
            yield "stdout", json.dumps(message).encode() + b"\n"


class HomeAgentSession(EndingSession):
    """A home agent that is asked for a binding; only that of the crowd has it."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self.at = ["100.64.0.8"] if node == "ha-crowd" else []

    def send(self, data: bytes) -> None:
        self.asked = json.loads(data)

    def __iter__(self) -> Generator[tuple[Stream, bytes]]:
        home = self.asked["home_address"]
        answer = {"ok": True, "home_address": home, "care_of_addresses": self.at, "lifetime_left": 590.0}
        yield "stdout", json.dumps(answer).encode() + b"\n"


@pytest.fixture
def crowd(run: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> CrowdSession:
    """A lab `bulk` is up, and this answers for its crowd."""
    session = CrowdSession()
    execute = engine.execute

    def executed(id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False) -> ExecSession:
        if command[0] == "socat" and "bulk-nodes" in command[-1]:
            return session
        if command[0] == "socat" and "home-agent" in command[-1]:
            return HomeAgentSession(engine.boxes[id].spec.hostname)
        return execute(id, command, stdin=stdin, tty=tty)

    monkeypatch.setattr(engine, "execute", executed)
    assert run("up", "bulk")[0] == 0
    return session


def test_moves_of_a_crowd_wait_for_no_other(run: Run, crowd: CrowdSession, tmp_path: Path) -> None:
    trace(tmp_path, "0,hotel,,2s\n0.5,airport,25%\n0.75,hotel,10.64.0.10-10.64.0.34\n")
    code, out, err = run("roam", "bulk", "crowd", "--trace", "trace.csv")
    assert (code, err) == (0, "this move began 0.2 s late\nthis move began 0.5 s late\n"
                              "3 moves, 0 without a registration, 2 late (by 0.5 s at most)\n")  # fmt: skip
    assert out.splitlines()[1] == (
        "     0.5 s  crowd 10.64.0.10-10.64.0.34: registered on airport: 25 of 25 nodes registered"
    )
    assert [each["at"] - crowd.BEGAN for each in crowd.sent] == [0.0, 0.5, 0.75]
    assert [each["within"] for each in crowd.sent] == [2.0, 0.0, 0.0]
    assert [each.get("share") for each in crowd.sent] == [None, 0.25, None]
    assert [each.get("homes") for each in crowd.sent] == [None, None, ["10.64.0.10", "10.64.0.34"]]
    code, out, _ = run("roam", "bulk", "crowd", "--trace", "trace.csv", "-o", "json")
    assert code == 0 and [json.loads(line)["requests"] for line in out.splitlines()] == [26] * 3


def test_a_crowd_knows_of_some_moves_ahead(run: Run, crowd: CrowdSession) -> None:
    code, _, err = run("roam", "bulk", "crowd", "--random", "--count", "200", "--every", "1min")
    assert code == 0 and err.endswith("200 moves, 0 without a registration, 199 late (by 49.8 s at most)\n")
    assert [each["id"] for each in crowd.sent] == list(range(200))


def test_a_crowd_may_refuse_and_go_away(run: Run, crowd: CrowdSession, tmp_path: Path) -> None:
    trace(tmp_path, "0,hotel\n0.5,airport,13%\n")
    code, _, err = run("roam", "bulk", "crowd", "--trace", "trace.csv")
    assert code == 1 and "bulk-nodes of crowd refuses move: an unlucky share" in err
    trace(tmp_path, "0,hotel\n")
    crowd.events, crowd.ends = [], True
    code, _, err = run("roam", "bulk", "crowd", "--trace", "trace.csv")
    assert code == 1 and "the connection manager of crowd went away during the move" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--part", "0%"), "--part 0%: expected a share such as 25%"),
        (("--within", "5"), "--within 5: expected a duration such as"),
        (("--part", "25%"), "mn is a single mobile node: only of a crowd a part moves"),
        (("--within", "5s"), "mn is a single mobile node"),
    ],
)
def test_only_a_part_of_a_crowd_moves(run: Run, options: tuple[str, ...], words: str) -> None:
    run("up", MIP)
    code, out, err = run("move", "plain-mip", "mn", "hotel", *options)
    assert (code, out) == (2, "") and words in err


def test_a_part_of_a_crowd_moves(run: Run, crowd: CrowdSession) -> None:
    moved = run("move", "bulk", "crowd", "airport", "--part", "25%", "--within", "2s")
    assert moved[0] == 0 and "crowd 10.64.0.10-10.64.0.34: registered on airport" in moved[1]
    assert [(each["share"], each["within"]) for each in crowd.sent] == [(0.25, 2.0)]


def test_the_status_of_a_single_node_of_a_crowd(run: Run, crowd: CrowdSession) -> None:
    code, out, _ = run("status", "bulk", "--home", "10.64.0.17")
    assert code == 0 and [line.split(maxsplit=2) for line in out.splitlines()[1:]] == [
        ["crowd", "mobile-node", "registered, care-of 100.64.0.8 (595 s left)"],
        ["ha-crowd", "home-agent", "10.64.0.17 at 100.64.0.8 (590 s left)"],
    ]
    found = json.loads(run("status", "bulk", "--home", "10.64.0.17", "-o", "json")[1])
    assert [each["node"] for each in found["reports"]] == ["crowd", "ha-crowd"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("bulk", "--home", "10.64.0.110"), "no crowd of lab bulk has the home address 10.64.0.110\n"
         "  hint: crowd has 10.64.0.10-10.64.0.109"),
        (("bulk", "--home", "17"), "--home 17: expected an IPv4 address"),
        (("--home", "10.64.0.17"), "--home needs a lab"),
        (("plain-mip", "--home", "10.64.0.17"), "hint: no node is a crowd"),
    ],
)  # fmt: skip
def test_a_home_address_of_nobody(
    run: Run, crowd: CrowdSession, options: tuple[str, ...], words: str
) -> None:
    run("up", MIP)
    code, out, err = run("status", *options)
    assert (code, out) == (2, "") and words in err
