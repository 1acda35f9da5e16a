"""The page of a study: intervals, small multiples, the grid of verdicts, what is missing, the machines."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from sample_study import RTTS, finished, study

from testbed.cli import main
from testbed.evidence.record import write_record
from testbed.evidence.study import StudyRecord, TaskRecord
from testbed.report.intervals import of_median, wilson
from testbed.report.multiples import RTT, Sample, figures, samples
from testbed.report.study import claim_grid, machines, missing, render_study


@pytest.fixture(scope="module")
def made() -> StudyRecord:
    return study()


@pytest.fixture(scope="module")
def records(made: StudyRecord) -> list[TaskRecord]:
    return finished(made)


@pytest.fixture(scope="module")
def measured(records: list[TaskRecord]) -> list[Sample]:
    return samples(records)


@pytest.mark.parametrize(
    "good, many, low, high",  # Newcombe (1998), table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_shares_have_the_published_intervals(good: int, many: int, low: float, high: float) -> None:
    assert wilson(good, many) == pytest.approx((low, high), abs=5e-5)
    assert wilson(many - good, many) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_a_median_has_an_interval_that_knows_of_repetitions() -> None:
    alike = [[10.0, 11, 12, 13]] * 3
    low, high = of_median(alike) or (0.0, 0.0)
    assert 10 <= low < 11.5 < high <= 13
    apart = of_median([[10.0, 10, 10], [20.0, 20, 20], [30.0, 30, 30]])
    assert apart == (10.0, 30.0)  # moves alone, whatever their repetition, would give 10 to 20 or less
    assert of_median(alike) == of_median(alike)  # the same page again
    assert of_median([[1.0, 2, 3, 4]]) is None and of_median([]) is None


def test_each_quantity_has_a_figure_and_each_of_the_rest_a_panel(measured: list[Sample]) -> None:
    assert len(measured) == 2 * 4 * 2 * 3 and {one.moves for one in measured} == {12}
    by_rtt, by_loss = figures(measured)
    assert (by_rtt.quantity, by_loss.quantity, by_loss.unit) == (RTT, "network.internet.loss", "%")
    assert len(by_rtt.panels) == 4 * 2 and len(by_loss.panels) == 3 * 2
    assert [*by_rtt.panels[0].options.values()] == ["0%", "gre"]
    assert [*by_rtt.panels[-1].options.values()] == ["10%", "ip-in-ip"]  # after 2 %
    scales = {(one.plot.x_ticks, one.plot.y_ticks) for figure in (by_rtt, by_loss) for one in figure.panels}
    assert len(scales) == 2  # of all panels of a figure the same
    mobike = {one.name: one for one in by_rtt.panels[0].plot.series}["solutions/mobike"]
    slope = float(mobike.model.split(" × ")[0])
    assert slope == pytest.approx(4, abs=0.2) and mobike.line is not None
    assert len(mobike.points) == 12 * len(RTTS) and len(mobike.intervals) == len(RTTS)
    assert all(one.low is not None and one.low >= one.y >= (one.high or 0) for one in mobike.intervals)
    assert all(series.line is None for panel in by_loss.panels for series in panel.plot.series)


def test_a_few_moves_far_off_do_not_flatten_the_figure(records: list[TaskRecord]) -> None:
    first, *others = [one for one in records if one.task.kind == "handoff"]
    far = [row.model_copy(update={"outage_ms": 60_000.0}) for row in first.rows[:1]]
    before = figures(samples([first, *others]))
    after = figures(samples([first.model_copy(update={"rows": [*far, *first.rows[1:]]}), *others]))
    assert [one.beyond for one in before] == [0, 0] and all(0 < one.beyond < 5 for one in after)
    assert float(after[0].panels[0].plot.y_ticks[-1].text) < 5000


def test_two_round_trip_times_make_no_line(made: StudyRecord, records: list[TaskRecord]) -> None:
    two = [
        one.model_copy(update={"rows": [row for row in one.rows if row.rtt_ms != RTTS[1]]})
        for one in records
        if not one.task.claim
    ]
    by_rtt, _ = figures(samples(two))
    series = [one for panel in by_rtt.panels for one in panel.plot.series]
    assert {(one.line, one.model) for one in series} == {(None, "no line (2 round-trip times, fewer than 3)")}
    page = render_study(made, two)
    assert 'class="fit"' not in page and "3 round-trip times or more" in page
    assert 'class="fit"' in render_study(made, records)


def test_stacks_of_a_topology_are_series_of_their_own(records: list[TaskRecord]) -> None:
    inside = [one for one in records if one.task.kind == "handoff"]
    outside = [
        one.model_copy(update={"task": one.task.model_copy(update={"stack": "ipsec-in-mip"})})
        for one in inside
    ]
    assert {one.series for one in samples([*inside, *outside])} == {
        f"{topology}, {stack}"
        for topology in ("solutions/mobike", "solutions/dual-ha")
        for stack in ("mip-in-ipsec", "ipsec-in-mip")
    }


def test_moves_that_did_not_end_are_in_no_median(measured: list[Sample]) -> None:
    unended = [one for one in measured if len(one.values) < one.moves]
    assert unended and all(len(one.values) >= 10 for one in unended)


def test_an_option_that_is_no_quantity_is_no_axis(records: list[TaskRecord]) -> None:
    still = [
        one.model_copy(update={"rows": [row for row in one.rows if row.rtt_ms == 0]})
        for one in records
        if one.task.options["network.internet.loss"] == "0%" and not one.task.claim
    ]
    (figure,) = figures(samples(still))  # nothing is varied but what has no size
    assert figure.quantity == RTT and len(figure.panels) == 2
    assert figures([]) == []


def test_the_grid_counts_verdicts_and_what_is_missing(made: StudyRecord, records: list[TaskRecord]) -> None:
    grid = claim_grid(made, records[1:])
    assert grid is not None and grid.option == "network.internet.loss"
    assert grid.values == ("0%", "1%", "2%", "10%") and len(grid.rows) == 2 * 2 * 2
    worst = grid.rows[0].cells[3]
    assert grid.rows[0].claim == "5.4-alone" and worst.verdict == "refuted"
    assert [worst.count(one) for one in ("reproduced", "refuted", "inconclusive", None)] == [1, 1, 1, 0]
    assert worst.interval == wilson(1, 2)
    without = [one for one in records if one.task.options["network.internet.loss"] != "10%"]
    gone = claim_grid(made, without)
    assert gone is not None and gone.rows[0].cells[3].verdict is None
    assert gone.rows[0].cells[3].count(None) == 3 and gone.rows[0].cells[3].interval is None
    handoffs = made.model_copy(update={"tasks": [one for one in made.tasks if not one.claim]})
    assert claim_grid(handoffs, records) is None


def test_what_is_missing_is_named_by_repetition(made: StudyRecord, records: list[TaskRecord]) -> None:
    assert missing(made, records) == []
    (one,) = missing(made, records[1:])
    assert one.task == made.tasks[0] and one.repetitions == (1,)
    assert sum(len(each.repetitions) for each in missing(made, [])) == len(made.tasks)


def test_machines_are_told_apart_by_all_that_they_are(records: list[TaskRecord]) -> None:
    assert [(one.record.host, one.tasks) for one in machines(records)] == [("lab-1", 72), ("lab-2", 72)]
    newer = [records[0].model_copy(update={"image_id": "sha256:other"}), *records[1:]]
    assert [one.tasks for one in machines(newer)] == [72, 71, 1]


def test_the_page_holds_together_and_leads_to_the_evidence(
    made: StudyRecord, records: list[TaskRecord]
) -> None:
    page = render_study(made, records)
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(drawing)
    assert "<script" not in page and "http" not in re.sub(r'xmlns="[^"]*"', "", page)
    assert len(re.findall(r'href="tasks/[0-9a-f]{32}\.tar\.zst"', page)) == 96 + 48 * len(RTTS)
    assert "href=" not in render_study(made, records, links=False)
    assert "Nothing: all 144 tasks are finished." in page and "no packet came through within 5 s" in page
    hostile = made.model_copy(update={"title": "<b>bold</b>"})
    assert "&lt;b&gt;bold" in render_study(hostile, records[1:3])
    assert "0 of 144 tasks finished" in render_study(made, [])


def test_the_command_writes_it_beside_the_results(
    made: StudyRecord, records: list[TaskRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tasks").mkdir()
    write_record(tmp_path / "study.json", made)
    for one in records[:20]:
        write_record(tmp_path / "tasks" / f"{one.task.key}.json", one)
    assert main(["sweep", "report", "any.yaml", "--results", str(tmp_path)]) == 0
    written = tmp_path / "report.html"
    assert capsys.readouterr().out.strip() == str(written)
    assert "20 of 144 tasks finished" in written.read_text(encoding="utf-8")
    assert main(["sweep", "report", "any.yaml", "--results", str(tmp_path), "-w", "-"]) == 0
    assert "href=" not in capsys.readouterr().out
    assert main(["sweep", "report", str(tmp_path / "any.yaml")]) == 2
    assert "any.results holds no results" in " ".join(capsys.readouterr().err.split())
