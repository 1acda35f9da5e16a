"""`testbed simulate` as a command: what it prints, draws, refuses, and what it ends with."""

import csv
import json
import xml.etree.ElementTree as ElementTree
from io import StringIO

import pytest

from testbed.cli import main
from testbed.cli import simulate as command
from testbed.cli.complete import complete_simulated
from testbed.cli.labs import Narrator
from testbed.errors import ExitCode
from testbed.simulate import curves, run
from testbed.simulate.model import Constant, Exponential, Uniform
from testbed.simulate.values import parse_loss, parse_rtt, parse_sizes, parse_solution, parse_stay

QUICK = ("simulate", "--hours", "0.1", "--stay", "60s", "--attach", "10s", "-q")


@pytest.fixture(autouse=True)
def few(monkeypatch) -> None:
    monkeypatch.setattr(curves, "_ENOUGH", 4)


def test_the_table_the_drawing_and_the_exponents(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(curves, "AT_MOST", 2.0)  # so few differ much from seed to seed
    drawing = tmp_path / "curves.svg"
    options = ("--solution", "nothing", "--nodes", "4,1,2", "--restart", "ha", "-w", str(drawing))
    assert main([*QUICK, *options]) == ExitCode.OK
    out = capsys.readouterr().out
    assert all(head in out.splitlines()[1] for head in ("N = 1", "N = 2", "N = 4", "EXPONENT"))
    assert {"Messages", "Most entries at once"} <= {*out.splitlines()}
    assert [line.split()[0] for line in out.splitlines() if line.startswith("nothing")] == ["nothing"] * 3
    root = ElementTree.parse(drawing).getroot()
    text = " ".join(root.itertext())
    assert "Messages: ha" in text and "Most entries at once: bindings" in text and "exponent" in text
    assert len(root.findall(".//{*}polyline")) == len(root.findall("{*}g")) > 8


def test_data_are_the_same_in_json_and_csv(capsys) -> None:
    assert main([*QUICK, "--solution", "dual-ha", "--nodes", "4", "-o", "json"]) == ExitCode.OK
    (outcome,) = json.loads(capsys.readouterr().out)["outcomes"]
    assert main([*QUICK, "--solution", "dual-ha", "--nodes", "4", "-o", "csv"]) == ExitCode.OK
    rows = list(csv.DictReader(StringIO(capsys.readouterr().out)))
    numbers = {(row["kind"], row["name"]): float(row["value"]) for row in rows}
    assert numbers["messages", "x-ha"] == outcome["load"]["x-ha"]["messages"] > 8
    assert numbers["state", "ike-sas"] == outcome["state"]["ike-sas"] == 4


def test_what_grows_too_fast_is_an_error(capsys, monkeypatch) -> None:
    monkeypatch.setattr(curves, "AT_MOST", 0.1)
    assert main([*QUICK, "--solution", "plain-mip", "--nodes", "1,2,4"]) == ExitCode.FAILED
    assert "! over 1.1" in capsys.readouterr().out


def test_who_interrupts_sees_what_is_finished(capsys, monkeypatch) -> None:
    def interrupted(solution, model, nodes, progress):
        if nodes > 4:
            raise KeyboardInterrupt
        return simulate(solution, model, nodes, progress)

    simulate = run.simulate
    monkeypatch.setattr(run, "simulate", interrupted)
    assert main([*QUICK[:-1], "--solution", "plain-mip", "--nodes", "4,8,16"]) == ExitCode.INTERRUPTED
    seen = capsys.readouterr()
    assert "N = 4" in seen.out and "N = 8" not in seen.out
    assert "interrupted; not simulated: plain-mip, N = 8; plain-mip, N = 16" in seen.err
    assert main([*QUICK, "--solution", "plain-mip", "--nodes", "8"]) == ExitCode.INTERRUPTED
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("passed", "work", "wanted"),
    [
        (0.0, 10.0, "x: 0.50 h of virtual time, 10% of all"),
        (30.0, 10.0, "x: 0.50 h of virtual time, 10% of all, about 4 min left"),
        (30.0, 60.0, "x: 0.50 h of virtual time, 60% of all, about 20 s left"),
        (30.0, 100.0, "x: 0.50 h of virtual time, 100% of all"),
    ],
)
def test_progress_has_an_estimate(passed, work, wanted, monkeypatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(Narrator, "show", lambda _, text: shown.append(text))
    monkeypatch.setattr(command.time, "monotonic", lambda: 0.0)
    estimate = command._Estimate(Narrator(), 100.0)
    monkeypatch.setattr(command.time, "monotonic", lambda: passed)
    estimate.show("x", 1800.0, work)
    assert shown == [wanted]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--nodes", "1,x"), "--nodes 1,x: expected whole numbers from 1 to 4,000,000"),
        (("--nodes", "0"), "--nodes 0: expected whole numbers"),
        (
            ("--solution", "mobike"),
            "--solution mobike: expected one of plain-mip, nothing, trusted-fa, dual-ha",
        ),
        (("--rtt", "40"), "--rtt 40: expected a duration such as 40ms"),
        (("--rtt", "200ms..20ms"), "--rtt 200ms..20ms: expected the lower of two round-trip times first"),
        (("--rtt", "20ms+0ms"), "--rtt 20ms+0ms: expected a mean above zero"),
        (("--loss", "3"), "--loss 3: expected a percentage"),
        (("--stay", "0"), "--stay 0: expected a duration above zero, or ever"),
        (("--lifetime", "1.5s"), "--lifetime 1.5s: expected whole seconds"),
        (("--advertise", "20h"), "--advertise 20h: expected whole seconds"),
        (("--restart", "mn"), "--restart mn: choose ha, x-ha, fa or gw"),
    ],
)
def test_what_is_refused(options, message, capsys) -> None:
    assert main(["simulate", *options]) == ExitCode.USAGE
    assert message in " ".join(capsys.readouterr().err.split())


def test_values() -> None:
    assert parse_rtt("40ms") == Constant(0.04)
    assert parse_rtt("20ms..200ms") == Uniform(0.02, 0.2)
    assert parse_rtt("20ms+30ms") == Exponential(0.02, 0.03)
    assert parse_sizes("100, 1,10,1") == [1, 10, 100]
    assert (parse_loss("0"), parse_loss("1%")) == (0.0, 0.01)
    assert (parse_stay("ever"), parse_stay("2min")) == (None, 120.0)
    assert parse_solution("dual-ha").name == "dual-ha"
    assert complete_simulated("no") == ["nothing"]
