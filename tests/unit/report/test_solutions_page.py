"""The page on solutions: the grid, every claim side by side, one move of each, and hand-offs by solution."""

import json

import pytest
from scapy.contrib.ikev2 import IKEv2
from scapy.layers.inet import IP, UDP
from test_report import Checked

from testbed.cli import main
from testbed.evidence.folder import capture_path
from testbed.evidence.handoff import HandOff, HandOffRun
from testbed.evidence.run import CapturedTap, CaptureRecord, EventRecord, RunRecord
from testbed.experiment.claims.solutions import choose_solutions
from testbed.experiment.claims.verdict import Finding, RunResult, claim_results, verdicts_of
from testbed.experiment.evidence import Evidence
from testbed.experiment.handoff.measure import merged, read_handoffs
from testbed.packet.pcap import RAW_IP, Frame, write_pcap
from testbed.report.evidence import read_evidence
from testbed.report.judged import moves
from testbed.report.page import render_report
from testbed.report.plots import measured, plot
from testbed.report.solutions import rows

GOOD = RunResult([Finding("it is <so>", True, "seen")])
BAD = RunResult([Finding("it is <so>", False, "in clear & more")])
BEGAN = 1_700_000_000.0


def record(evidence, claim, recorded=""):
    folder = evidence.run_folder(claim, "run")
    at = {"claim": claim, "run": "main", "lab": "verify-1", "began": BEGAN, "ended": BEGAN + 9}
    evidence.write_run(folder, RunRecord(**at, topology="topologies/nothing.yaml", recorded=recorded))
    return folder


def message(exchange, after):
    packet = IP(src="198.51.100.140", dst="203.0.113.2") / UDP(sport=500, dport=500)
    packet /= IKEv2(init_SPI=b"abcdefgh", exch_type=exchange, flags="Initiator", next_payload=0)
    return Frame(int((BEGAN + after) * 1e9), RAW_IP, bytes(packet), len(packet))


@pytest.fixture
def folder(tmp_path):
    """Two solutions; a run of each on hand-offs, one of which another claim shares."""
    evidence = Evidence(tmp_path / "evidence")
    chosen = choose_solutions(["trusted-fa"])
    results = {
        (one.id(name), kind, number): GOOD
        for one in chosen
        for name, claim in one.claims.items()
        for kind in ("run", "control")
        for number, _ in enumerate(claim.experiments(kind), 1)
    }
    for broken in (
        "trusted-fa.5.1-nothing-in-clear",
        "nothing.5.6-no-negotiation",
        "nothing.5.6-no-authentication",
    ):
        results[broken, "run", 1] = BAD
    for one in chosen:
        evidence.write_topology(one.loaded.text(), one.loaded.name)
        run = record(evidence, f"{one.loaded.name}.5.6-no-negotiation")
        record(
            evidence,
            f"{one.loaded.name}.5.6-no-authentication",
            f"claims/{one.loaded.name}.5.6-no-negotiation/main/",
        )
        events = [
            {"event": "move-started", "monotonic": 1.0, "network": "hotel"},
            {"event": "settled", "monotonic": 1.5, "network": "hotel"},
            {"event": "move-started", "monotonic": 2.0},
            {"event": "settled", "monotonic": 2.5, "network": "airport", "state": "registered"},
        ]
        evidence.write_events(
            run,
            [
                EventRecord.model_validate(
                    {"node": "mn", "source": "roam", "wall": BEGAN + event["monotonic"] + 0.01, **event}
                )
                for event in events
            ],
        )
        (run / "captures").mkdir()
        frames = [message(34, 1.2), message(34, 2.1), message(35, 2.2), message(35, 2.9)]
        write_pcap(run / capture_path("mn/airport"), RAW_IP, frames)
        taps = {"mn/airport": CapturedTap(file=capture_path("mn/airport"), alive=True, frames=len(frames))}
        evidence.write_captured(run, CaptureRecord(taps=taps))
    evidence.write("verdicts.json", verdicts_of("", {}, list(claim_results(chosen, results))))
    return evidence.root


def test_the_page(folder) -> None:
    page = render_report(read_evidence(folder), links=False)
    read = Checked()
    read.feed(page)
    assert not read.open
    assert not [ref for ref in read.refs if ref.startswith("#") and ref[1:] not in read.ids]
    assert "2 solutions judged by 10 guidelines of section 5" in page
    assert {"nothing-5.6", "trusted-fa-5.1", "g5.10", "grid", "compared", "moves"} <= read.ids
    assert "it is &lt;so&gt;: in clear &amp; more" in page
    assert "carried out as one with that of" in page
    assert "testbed verify solutions/nothing --claim 5.6-no-negotiation --evidence evidence" in page
    assert "What works, what fails" not in page and "Which scenarios need solving" not in page


def test_the_last_move_of_each_and_its_messages(folder) -> None:
    evidence = read_evidence(folder)
    made = rows(evidence.verdicts, evidence.scenarios)
    found = moves(evidence, evidence.verdicts, made)
    assert [(one.solution, one.network, round(one.settled)) for one in found] == [
        ("nothing", "airport", 500),
        ("trusted-fa", "airport", 500),
    ]
    messages = [(round(one.after), one.kind, one.text.partition(" ")[0]) for one in found[0].messages]
    assert messages == [(90, "ike", "IKE_SA_INIT"), (190, "ike", "IKE_AUTH")]  # by the node's clock
    assert found[0].number("ike") == 2 and found[0].messages[0].receiver == "gw"


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_move_that_did_not_end_has_no_messages(folder, left) -> None:
    for run in folder.glob("claims/*no-negotiation/main/events.jsonl"):
        run.write_text("".join(line + "\n" for line in run.read_text().splitlines()[:left]))
    evidence = read_evidence(folder)
    assert moves(evidence, evidence.verdicts, rows(evidence.verdicts, evidence.scenarios)) == []
    assert "One move each" not in render_report(evidence)


@pytest.mark.parametrize(
    ("tried", "columns"),
    [
        ("5.6", {"5.6"}),
        ("5.1", {"5.1"}),  # claims of 5.10 are among its own
        ("5.1-gateway-kept", {"5.1"}),
        ("5.10-a4", {"5.1", "5.10"}),  # no guideline as a whole
    ],
)
def test_guidelines_that_were_left_out_have_no_column(folder, tried, columns) -> None:
    file = folder / "verdicts.json"
    document = json.loads(file.read_text())
    document["claims"] = [
        one for one in document["claims"] if tried in one["guideline"] or one["name"] == tried
    ]
    file.write_text(json.dumps(document))
    evidence = read_evidence(folder)
    made = rows(evidence.verdicts, evidence.scenarios)
    assert {cell.guideline for row in made for cell in row.cells} == columns


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        (["trusted-fa.5.1-nothing-in-clear"], "refuted"),
        (["nothing.5.1-nothing-in-clear"], "reproduced"),
        (["trusted-fa.5.1-nothing-in-clear", "solutions/trusted-fa"], "refuted"),
        (["5.1-nothing-in-clear", "solutions/trusted-fa"], "refuted"),
        (["5.1-nothing-in-clear", "solutions/nothing"], "reproduced"),
    ],
)
def test_a_claim_of_a_solution_is_explained_from_the_evidence(folder, capsys, asked, verdict) -> None:
    assert main(["explain", *asked, "--evidence", str(folder), "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["claim"] == "5.1-nothing-in-clear" and told["verdict"]["verdict"] == verdict


def test_a_claim_of_another_solution_has_no_verdict(folder, capsys) -> None:
    asked = ["explain", "5.1-nothing-in-clear", "solutions/mobike", "--evidence", str(folder)]
    assert main(asked) == 2
    assert "has no verdict on 5.1-nothing-in-clear" in capsys.readouterr().err


# Hand-offs


def run(solution, stack, rtt, *outages):
    moves = [HandOff(outage_ms=outage) for outage in outages]
    return HandOffRun(
        stack=stack,
        topology=solution,
        solution=solution,
        between=["hotel", "airport"],
        rtt_ms=rtt,
        moves=moves,
    )


def test_solutions_of_one_stack_have_a_line_each(tmp_path) -> None:
    document = read_handoffs(tmp_path / "none.json", "nothing")
    for solution, k in (("nothing", 4), ("mobike", 2)):
        runs = [run(solution, "mip-in-ipsec", rtt, k * rtt + 20) for rtt in (0.0, 100.0, 200.0)]
        document = merged(document, runs)
    assert measured(document) == ["mobike", "nothing"]
    assert {name: round(fit.k) for name, fit in document.fit.items()} == {"mobike": 2, "nothing": 4}
    drawn = plot(document)
    assert drawn and [one.name for one in drawn.series] == ["mobike", "nothing"]
    again = merged(document, [run("mobike", "mip-in-ipsec", 0.0, 999)])
    assert sorted(one.outages[0] for one in again.runs if one.rtt_ms == 0) == [20, 999]


def test_a_topology_that_is_no_solution_is_measured_by_its_stack() -> None:
    assert run("", "mip-only", 0.0, 20).series == "mip-only"
