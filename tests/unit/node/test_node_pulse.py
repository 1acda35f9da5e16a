"""The pulse: late timers, steps of the clock, pressure."""

import json
import subprocess
import sys
import time

from testbed.node import pulse


def test_it_reports_what_was_since_it_was_asked_before():
    with subprocess.Popen(
        [sys.executable, "-m", "testbed.node.pulse"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert json.loads(process.stdout.readline())["event"] == "ready"
        reports = []
        for _ in range(2):
            process.stdin.write("report\n")
            process.stdin.flush()
            reports.append(json.loads(process.stdout.readline()))
        process.stdin.close()
        assert process.wait(10) == 0
    assert [one["event"] for one in reports] == ["health", "health"]
    assert all(one["late_ms"] >= 0 and one["clock_ms"] == 0 for one in reports)


def test_the_worst_of_all_is_taken_down(monkeypatch):
    measured = pulse.Measured()
    now = time.monotonic()
    monkeypatch.setattr(pulse.time, "monotonic", lambda: now)
    for late in (0.002, 0.38, 0.01):
        measured.look(now - late)
    assert round(measured.fields()["late_ms"]) == 380


def test_a_clock_that_is_set_is_noticed_and_one_that_is_only_slow_to_read_is_not(monkeypatch):
    offsets = iter([100.0, 100.0002, None, 96.8, 96.8])
    monkeypatch.setattr(pulse, "offset", lambda: next(offsets))
    measured = pulse.Measured()
    assert measured.fields()["clock_ms"] == 0
    for _ in range(4):
        measured.look(time.monotonic())
    assert round(measured.fields()["clock_ms"]) == -3200


def test_pressure_where_the_kernel_tells(monkeypatch, tmp_path):
    file = tmp_path / "cpu"
    monkeypatch.setattr(pulse, "PRESSURE", file)
    assert pulse.waited() is None and pulse.Measured().fields()["pressure"] is None
    file.write_text("some avg10=0.54 avg60=25.50 avg300=48.45 total=2500000\nfull avg10=0.00 total=0\n")
    assert pulse.waited() == 2.5
