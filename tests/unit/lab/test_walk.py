"""Moving a mobile node by a schedule: traces and their mistakes, moves at random, and time without drift."""

from __future__ import annotations

import json
from collections.abc import Generator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
from lab_world import MIP, Run

from testbed.errors import TestbedError
from testbed.lab import walk as walking
from testbed.lab.walk import Step, random_steps, read_trace, walk

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
