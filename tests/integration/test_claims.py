"""The claims of all scenarios for real, and their sabotage: one verification decides them all."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import chain

import pytest
from claims_world import CLAIMS, reasons, scenario, verdicts
from sabotages import SABOTAGES

from testbed.engine import names
from testbed.errors import UsageError
from testbed.lab.addresses import choose_pool
from testbed.lab.down import remove_labs
from testbed.lab.state import read_labs
from testbed.lab.up import bring_up
from testbed.mobileip.wire.registration_request import RegistrationRequest
from testbed.packet.decode import decode
from testbed.packet.layers import MipUdp, MobileIp
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
            place = folder / "claims" / claim.id / run
            steps = [json.loads(line) for line in (place / "steps.jsonl").read_text().splitlines()]
            assert steps and all(one["began"] <= one["ended"] for one in steps)
            assert (place / "events.jsonl").read_text()
        for one in claim.evidence:
            assert one.held is True and one.observed
            for file in one.files:
                read_capture(folder / file)  # every one of them can be read


QUOTED_NOWHERE = "mip && !(icmp.type == 3)"  # an ICMP error quotes what it is about
FIELDS = ("type", "life", "homeaddr", "haaddr", "coa", "flags", "code")


def read_by_tshark(files, merged):
    """Every message of Mobile IP in captures one after the other: frame number and fields, or its type alone.

    The type stands alone for tunnel data (RFC 3519 §3.3).
    """
    subprocess.run(["mergecap", "-a", "-w", merged, *files], check=True)
    fields = [option for field in FIELDS for option in ("-e", f"mip.{field}")]
    command = [
        "tshark",
        "-n",
        "-r",
        merged,
        "-Y",
        QUOTED_NOWHERE,
        "-T",
        "fields",
        "-e",
        "frame.number",
        *fields,
    ]
    out = subprocess.run([*command, "-e", "_ws.malformed"], capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        number, *values, malformed = line.split("\t")
        assert not malformed, line
        fields = dict(zip(FIELDS, values, strict=True))
        yield int(number), {"type": "4"} if fields["type"] == "4" else fields


def read_by_us(files):
    """The same, as the report reads them."""
    for number, frame in enumerate(chain.from_iterable(map(read_capture, files)), 1):
        packet = decode(frame.data, frame.linktype)
        if packet.first(MipUdp):
            yield number, {"type": "4"}
        layer = packet.first(MobileIp)
        if layer is None:
            continue
        message = layer.message
        fields = dict.fromkeys(FIELDS, "") | {
            "life": str(message.lifetime),
            "homeaddr": str(message.home_address),
            "haaddr": str(message.home_agent),
        }
        if isinstance(message, RegistrationRequest):
            fields |= {"type": "1", "coa": str(message.care_of_address), "flags": f"0x{message.flags:02x}"}
        else:
            fields |= {"type": "3", "code": str(message.code)}
        yield number, fields


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


# Labs that are up, and interruptions


AT_HOME = """\
name: at-home
title: The least that a claim can be tried in
options: {stack: {default: mip-only}}
networks:
  home: {subnet: 192.0.2.0/24, domain: operator}
  away: {subnet: 198.51.100.0/24, domain: internet}
nodes:
  ha:
    roles: [router, home-agent]
    links: {home: 192.0.2.1, away: 198.51.100.1}
    settings: {home-network: home}
  mn:
    roles: [mobile-node]
    attaches: [home, away]
    settings: {home-agent: ha, home-address: 192.0.2.100}
claims:
  at-home:
    says: At home the mobile node needs no binding
    source: RFC 5944 §1.1
    run: {steps: [{move: {to: home}}], expect: [{mobile-node: home}]}
    control: {steps: [{move: {to: home}}], expect: [{daemons: {node: ha, running: [home-agent]}}]}
"""


def test_a_lab_that_is_up_is_used_and_stays(verify, engine, node_image, tmp_path):
    file = tmp_path / "at-home.yaml"
    file.write_text(AT_HOME)
    name = "test-claims-existing"
    try:
        bring_up(engine, load_topology(str(file)), lab=name, image=node_image, pool=choose_pool())
        result = verify(file, existing=name)
        assert verdicts(result) == {"at-home": "reproduced"}, reasons(result)
        assert list(result[0].backends) == [name]
        assert name in read_labs(engine)
        with pytest.raises(UsageError, match="no run can take place"):
            verify("scenario-2.1", ["fig10-trusted-fa"], existing=name)
    finally:
        remove_labs(engine, name)


def test_interrupted_nothing_is_left(engine, node_image, tmp_path):
    name = f"interrupted-{os.getpid()}"
    file = scenario(tmp_path, ("name: scenario-2.1\n", f"name: {name}\n"))
    program = "import sys; from testbed.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "verify", str(file), "--claim", "2.1-fa-mn-deaf"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not engine.containers({names.TOPOLOGY: name}) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(4)  # anywhere between the first container and the first run
        for _ in range(2):  # as timeout(1) does: the process, and its group
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "taking down the labs" in err, out + err
    assert not engine.containers({names.TOPOLOGY: name}) and not engine.networks({names.TOPOLOGY: name})
