"""The claims of all scenarios for real, and their sabotage: one verification decides them all."""

import json
import os
import subprocess
import sys
from itertools import chain

import pytest
from claims_world import CLAIMS, reasons, verdicts
from oracle import read_by_tshark, read_by_us
from sabotages import SABOTAGES

from testbed.evidence.folder import RunFolder
from testbed.lab.state import read_labs
from testbed.packet.pcap import read_capture
from testbed.report.evidence import read_evidence
from testbed.report.overhead import overheads
from testbed.report.selection import select
from testbed.topology.load import load_topology

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def everything(verified):
    return verified.claims


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_is_there(name):
    assert list(load_topology(name).topology.claims) == CLAIMS[name]


@pytest.mark.parametrize("claim", list(chain.from_iterable(CLAIMS.values())))
def test_the_document_is_right(everything, claim):
    assert verdicts(everything)[claim] == "reproduced", reasons(everything)


def test_judged_again_without_an_engine_they_are_what_they_were(everything):
    command = [sys.executable, "-m", "testbed", "judge", str(everything[1]), "-o", "json"]
    environment = os.environ | {"DOCKER_HOST": "tcp://127.0.0.1:1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    claims = {one["id"]: one for one in json.loads(done.stdout)["claims"]}
    assert {name: one["verdict"] for name, one in claims.items()} == verdicts(everything), done.stderr
    assert not [one for one in claims.values() if one["differences"]]


def test_section_3_follows(everything):
    selection = select(everything[0], {name: load_topology(name).topology for name in CLAIMS})
    problems = {one.short: set(one.problems) for one in selection.scenarios}
    assert problems["2.2"] and problems["2.2"] <= problems["2.1"]
    assert problems["2.4"] and problems["2.4"] <= problems["2.1"]
    assert problems["2.3"] == problems["2.5"] == set()
    assert [one.state for one in selection.statements] == ["held"] * 4


def test_headers_cost_what_the_standards_say(everything):
    found = {(one.stack, one.attachment): one for one in overheads(read_evidence(everything[1]))}
    assert len(found) == 5
    for configuration, one in found.items():
        assert one.length == one.computed, configuration


def test_nothing_is_left_behind(everything, engine):
    assert not [name for name in read_labs(engine) if name in everything[0].backends]


def test_the_evidence_is_complete(everything):
    document, folder = everything
    assert json.loads((folder / "verdicts.json").read_text()) == document.document
    assert json.loads((folder / "versions.json").read_text())["programs"]["strongswan-charon"]
    for claim in document.claims:
        for run in ("main", "control"):
            place = RunFolder(folder / "claims" / claim.id / run).recording
            steps = [json.loads(line) for line in (place / "steps.jsonl").read_text().splitlines()]
            assert steps and all(one["began"] <= one["ended"] for one in steps)
            assert (place / "events.jsonl").read_text()
        for one in claim.evidence:
            assert one.held is True and one.observed
            for file in one.files:
                read_capture(folder / file)  # every one of them can be read


def test_tshark_reads_every_message_of_mobile_ip_as_the_report_does(everything, tmp_path):
    files = sorted(everything[1].rglob("*.pcap"))
    ours = list(read_by_us(files))
    assert ours == list(read_by_tshark(files, tmp_path / "merged.pcapng"))
    assert len(ours) > 100
    assert sum(fields == {"type": "4"} for _, fields in ours) > 20


# Sabotage: each changes the topology as a user would, with `--set` or in a copy of the files, and leaves the
# claims and their controls as they are (where a claim's own run asks for what is sabotaged, the run).


@pytest.mark.parametrize("what", SABOTAGES)
def test_what_contradicts_the_document_is_refuted(verified, what):
    """A busy machine may have spoiled what would refute: then nothing is decided, and the finding says so."""
    sabotage, found = SABOTAGES[what], verified.sabotages[what]
    assert set(found) == set(sabotage.claims)
    for claim in found.values():
        if sabotage.verdict == "refuted":
            busy = any(one.excuse for one in claim.evidence) or too_slow(claim.run)
            assert claim.run.verdict == "failed" or busy, findings(claim)
        else:
            assert claim.verdict == sabotage.verdict, findings(claim)


def test_a_broken_control_is_the_reason(verified):
    (claim,) = verified.sabotages["a broken control is never success"].values()
    assert claim.reason.startswith("the control failed")


def too_slow(run):
    """Whether a step could not be carried out, on a machine that may be why."""
    return run.error and run.health and run.health.late_ms >= 100


def findings(claim):
    """What was seen in the place of what was expected, and why a run could not be carried out."""
    seen = [f"{one.held}: {one.expectation}: {one.observed}" for one in claim.evidence]
    return "\n".join([f"{claim.id}: {claim.run.verdict}: {claim.run.error}", *seen])
