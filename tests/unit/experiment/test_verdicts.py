"""From findings to verdicts: every combination, and that nothing comes from nothing."""

import itertools

import pytest

from testbed.claim.capture import decide_count
from testbed.claim.expect.wire import Packets
from testbed.claim.seen import Count
from testbed.evidence.health import Health
from testbed.evidence.verdicts import LabFacts
from testbed.experiment.claims.verdict import ClaimResult, Finding, RunResult, decide, together, verdicts_of
from testbed.packet.pcap import RAW_IP, Frame
from testbed.packet.taps import Matched

YES, NO, UNKNOWN = (Finding("it is so", held, "seen") for held in (True, False, None))


def run(*findings, error=None):
    return RunResult(list(findings), error=error)


def count(**keys):
    return Count.model_validate({key.replace("_", "-"): value for key, value in keys.items()})


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_a_run_is_held_only_if_everything_was_seen(size):
    for findings in itertools.product([YES, NO, UNKNOWN], repeat=size):
        for error in (None, "the lab fell over"):
            result = run(*findings, error=error)
            if error or not findings or UNKNOWN in findings:
                assert result.verdict == "undecided"
            elif NO in findings:
                assert result.verdict == "failed"
            else:
                assert result.verdict == "held"
            assert bool(result.reason) == (result.verdict != "held")


RESULTS = {
    "held": run(YES),
    "failed": run(YES, NO),
    "undecided": run(YES, UNKNOWN),
    "error": run(YES, error="no capture"),
    "empty": run(),
    "missing": None,
}
TABLE = {
    ("held", "held"): "reproduced",
    ("failed", "held"): "refuted",
}


@pytest.mark.parametrize("control", RESULTS)
@pytest.mark.parametrize("main", RESULTS)
def test_the_truth_table(main, control):
    verdict, reason = decide(RESULTS[main], RESULTS[control])
    assert verdict == TABLE.get((main, control), "inconclusive")
    assert bool(reason) == (verdict != "reproduced")
    if control != "held":
        assert "control" in reason


def test_a_failed_expectation_among_undecidable_ones_refutes_nothing():
    assert decide(run(NO, UNKNOWN), run(YES))[0] == "inconclusive"


def test_what_slowness_cannot_explain_refutes_beside_what_it_can():
    soft, hard = Finding("it comes", False, "0", bound=1000.0), Finding("nothing leaks", False, "3")
    busy = Health(late_ms=100.0)
    assert soft.excused(Health(late_ms=99.9)) is soft
    assert decide(run(YES, soft), run(YES))[0] == "refuted"
    verdict, reason = decide(run(YES, soft.excused(busy)), run(YES))
    assert (
        verdict == "inconclusive" and "it comes: 0 (the machine was busy: timers up to 100 ms late)" in reason
    )
    verdict, reason = decide(run(soft.excused(busy), hard.excused(busy)), run(YES))
    assert verdict == "refuted" and reason == "nothing leaks: 3"
    assert decide(run(soft.excused(busy), NO, UNKNOWN), run(YES))[0] == "inconclusive"
    verdict, reason = decide(run(YES), run(soft.excused(busy)))
    assert verdict == "inconclusive" and "the control could not decide" in reason and "busy" in reason


def test_only_what_did_not_hold_needs_an_excuse():
    assert YES.excused(Health(late_ms=5000.0)) is YES and UNKNOWN.excused(Health(late_ms=5000.0)) is UNKNOWN


def test_an_error_on_a_busy_machine_says_that_it_was_busy():
    result = RunResult(error="mn: move did not settle in 25 s", health=Health(late_ms=240.0))
    assert result.reason == "mn: move did not settle in 25 s (the machine was busy: timers up to 240 ms late)"


def test_the_health_of_several_runs_is_the_worst():
    runs = [
        RunResult(
            [YES], health=Health(late_ms=5.0, cpu_pressure_percent=20.0, clock_step_ms=-40.0, dropped=1)
        ),
        RunResult([YES], health=Health(late_ms=9.0, clock_step_ms=3.0, dropped=2)),
    ]
    assert together(runs).health == Health(
        late_ms=9.0, cpu_pressure_percent=20.0, clock_step_ms=-40.0, dropped=3
    )
    assert together([RunResult([YES])]).health is None


def test_the_time_of_day_may_have_been_set():
    assert Health(late_ms=0.0, clock_step_ms=-3200.0).trouble(1000.0) == "the time of day was set by -3200 ms"
    assert Health(late_ms=0.0, clock_step_ms=-3.0).trouble(1000.0) is None


def matched(number, total=None, alive=True, dropped=0, tap="mn/hotel"):
    frames = (Frame(0, RAW_IP, b"", 0),) * number
    return Matched(tap, frames, number if total is None else total, alive, dropped)


@pytest.mark.parametrize(
    ("wanted", "seen", "held"),
    [
        (count(at_least=1), matched(3), True),
        (count(at_least=4), matched(3), False),
        (count(exactly=3), matched(3), True),
        (count(exactly=2), matched(3), False),
        (count(at_most=2), matched(3), False),
        (count(none=True), matched(3), False),
        (count(at_least=2, at_most=4), matched(3), True),
        (count(none=True), matched(0, total=9), True),
        (count(exactly=0), matched(0, total=9), True),
        (count(at_least=1), matched(0, total=9), False),
        # a capture that ran and saw nothing at all proves silence, but not that something did not happen
        (count(none=True), matched(0), True),
        (count(at_least=1), matched(0), None),
        (count(exactly=1), matched(0), None),
        # a capture that did not run to the end proves nothing
        (count(none=True), matched(0, alive=False), None),
        (count(at_least=1), matched(3, alive=False), None),
        # what the kernel dropped may have been what was not to be there
        (count(none=True), matched(0, total=9, dropped=1), None),
        (count(exactly=3), matched(3, dropped=1), None),
        (count(at_least=1), matched(3, dropped=1), True),
        (count(at_least=1, at_most=3), matched(3, dropped=1), None),
        # nor do they count as missing what they may have been
        (count(at_least=4), matched(3, dropped=1), None),
        (count(at_least=5), matched(3, dropped=1), False),
        (count(exactly=2), matched(3, dropped=1), False),
    ],
)
def test_what_a_wire_decides(wanted, seen, held):
    assert decide_count(wanted, [seen], [len(seen.packets)])[0] is held


def test_one_dead_tap_among_several_is_enough_to_know_nothing():
    taps = [matched(0, total=5), matched(0, alive=False, tap="mn/airport")]
    held, why, *_ = decide_count(count(none=True), taps, [0, 0])
    assert held is None and "mn/airport" in why


def test_one_silent_tap_among_several_is_fine():
    taps = [matched(2), matched(0, tap="mn/airport")]
    held, text, *_ = decide_count(count(at_least=2), taps, [2, 0])
    assert held is True and "mn/hotel 2, mn/airport 0" in text


def test_counts_say_what_they_want():
    wanted = {
        "none": count(none=True),
        "exactly 2": count(exactly=2),
        "at least 1 and at most 3": count(at_least=1, at_most=3),
    }
    assert {one.wanted for one in wanted.values()} == set(wanted)
    assert Packets.model_validate({"at": "mn/hotel", "none": True}).at == ["mn/hotel"]


def test_several_runs_are_one_that_holds_when_all_do():
    held, failed, undecided = (RESULTS[one] for one in ("held", "failed", "undecided"))
    assert together([held, held]).verdict == "held"
    assert together([held, failed]).verdict == "failed"
    assert together([failed, undecided]).verdict == "undecided"
    assert together([held, None]) is None
    broken = together([held, RunResult(error="no lab")])
    assert broken.verdict == "undecided" and broken.error == "run 2: no lab"
    assert [one.number for one in together([held, failed]).findings][-1] == 2


def test_verdicts_json_has_what_was_promised():
    claim = ClaimResult(
        "2.1-x", "it holds", "§2.1", {"stack": "mip-only"}, RESULTS["failed"], RESULTS["held"]
    )
    document = verdicts_of("scenario-2.1", {"lab": LabFacts()}, [claim]).document
    assert document["schema_version"] == 2 and document["scenario"] == "scenario-2.1"
    (one,) = document["claims"]
    assert one["run"]["health"] is None and {each["excuse"] for each in one["evidence"]} == {None}
    assert {"id", "verdict", "source", "configuration", "control", "evidence", "reason"} <= one.keys()
    assert one["verdict"] == "refuted" and one["control"]["verdict"] == "held"
    assert [(each["run"], each["held"]) for each in one["evidence"]] == [
        ("main", True),
        ("main", False),
        ("control", True),
    ]
