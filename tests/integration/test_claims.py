"""The claims of all scenarios for real."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import chain

import pytest
from claims_world import reasons, scenario, verdicts

from testbed.engine import names
from testbed.errors import UsageError
from testbed.lab.addresses import choose_pool
from testbed.lab.down import remove_labs
from testbed.lab.state import read_labs
from testbed.lab.up import bring_up
from testbed.mobileip.wire.registration_request import RegistrationRequest
from testbed.packet.decode import decode
from testbed.packet.layers import MobileIp
from testbed.packet.pcap import read_capture
from testbed.report.evidence import read_evidence
from testbed.report.overhead import overheads
from testbed.report.selection import select
from testbed.topology.load import load_topology

CLAIMS = {
    "scenario-2.1": [
        "2.1-inside-mobility",
        "2.1-gateway-guards",
        "2.1-colocated-registers",
        "2.1-colocated-renegotiates",
        "2.1-fa-registration-impossible",
        "2.1-fa-mn-deaf",
        "2.1-fa-blocks-ipsec",
        "2.1-fa-sees-ciphertext",
        "2.1-fa-cleartext-no-help",
        "2.1-fa-data-dropped",
        "2.1-wlan-outside",
        "fig10-trusted-fa",
        "2.1-fa-no-cleartext",
        "2.1-exit-no-cleartext",
    ],
    "scenario-2.2": [
        "2.2-ha-reachable",
        "2.2-always-away",
        "2.2-dmz-hairpin",
        "2.2-mip-in-ipsec-fa",
        "2.2-mip-in-ipsec-renegotiates",
        "2.2-ipsec-in-mip-mobile",
        "2.2-ipsec-in-mip-needs-routing",
    ],
    "scenario-2.3": ["2.3-routing-resolved", "2.3-single-box"],
    "scenario-2.4": ["2.4-registers-without-ipsec", "2.4-ipsec-in-mip-mobile", "2.4-no-mobility-inside"],
    "scenario-2.5": [
        "2.5-ipsec-in-mip-works",
        "2.5-mip-in-ipsec-fa",
        "2.5-mip-in-ipsec-renegotiates",
        "2.5-perimeter-grows",
    ],
}
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def everything(verify_all):
    return verify_all([(name, (), (), True) for name in CLAIMS])


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_is_there(name):
    assert list(load_topology(name).topology.claims) == CLAIMS[name]


@pytest.mark.parametrize("claim", list(chain.from_iterable(CLAIMS.values())))
def test_the_document_is_right(everything, claim):
    assert verdicts(everything)[claim] == "reproduced", reasons(everything)


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


FIELDS = ("type", "life", "homeaddr", "haaddr", "coa", "flags", "code")


def read_by_tshark(files, merged):
    """Every registration message of captures one after the other: frame number and fields."""
    subprocess.run(["mergecap", "-a", "-w", merged, *files], check=True)
    fields = [option for field in FIELDS for option in ("-e", f"mip.{field}")]
    command = ["tshark", "-n", "-r", merged, "-Y", "mip", "-T", "fields", "-e", "frame.number", *fields]
    out = subprocess.run([*command, "-e", "_ws.malformed"], capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        number, *values, malformed = line.split("\t")
        assert not malformed, line
        yield int(number), dict(zip(FIELDS, values, strict=True))


def read_by_us(files):
    """The same, as the report reads them."""
    for number, frame in enumerate(chain.from_iterable(map(read_capture, files)), 1):
        layer = decode(frame.data, frame.linktype).first(MobileIp)
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


def test_tshark_reads_every_registration_message_as_the_report_does(everything, tmp_path):
    files = sorted(everything[1].rglob("*.pcap"))
    ours = list(read_by_us(files))
    assert ours == list(read_by_tshark(files, tmp_path / "merged.pcapng"))
    assert len(ours) > 100


def test_a_lab_that_is_up_is_used_and_stays(verify, engine, node_image):
    loaded = load_topology("scenario-2.1", sets=["option.stack=mip-in-ipsec", "option.attach=home"])
    name = "test-claims-existing"
    try:
        bring_up(engine, loaded, lab=name, image=node_image, pool=choose_pool())
        result = verify("scenario-2.1", ["2.1-fa-mn-deaf"], existing=name)
        assert verdicts(result) == {"2.1-fa-mn-deaf": "reproduced"}, reasons(result)
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
