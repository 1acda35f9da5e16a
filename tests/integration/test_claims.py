"""The claims of scenario 2.1 for real."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from claims_world import reasons, scenario, verdicts

from testbed.engine import names
from testbed.errors import UsageError
from testbed.experiment.pcap import read_capture
from testbed.lab.addresses import choose_pool
from testbed.lab.down import remove_labs
from testbed.lab.state import read_labs
from testbed.lab.up import bring_up
from testbed.topology.load import load_topology

CLAIMS = [
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
]
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def everything(verify):
    return verify("scenario-2.1")


def test_every_claim_is_there():
    assert list(load_topology("scenario-2.1").topology.claims) == CLAIMS


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_document_is_right(everything, claim):
    assert verdicts(everything)[claim] == "reproduced", reasons(everything)


def test_nothing_is_left_behind(everything, engine):
    assert not [name for name in read_labs(engine) if name in everything[0]["backends"]]


def test_the_evidence_is_complete(everything):
    document, folder = everything
    assert json.loads((folder / "verdicts.json").read_text()) == document
    assert json.loads((folder / "versions.json").read_text())["programs"]["strongswan-charon"]
    for claim in document["claims"]:
        for run in ("main", "control"):
            place = folder / "claims" / claim["id"] / run
            steps = [json.loads(line) for line in (place / "steps.jsonl").read_text().splitlines()]
            assert steps and all(one["began"] <= one["ended"] for one in steps)
            assert (place / "events.jsonl").read_text()
        for one in claim["evidence"]:
            assert one["held"] is True and one["observed"]
            for file in one["files"]:
                read_capture(folder / file)  # every one of them can be read


def test_a_lab_that_is_up_is_used_and_stays(verify, engine, node_image):
    loaded = load_topology("scenario-2.1", sets=["option.stack=mip-in-ipsec", "option.attach=home"])
    name = "test-claims-existing"
    try:
        bring_up(engine, loaded, lab=name, image=node_image, pool=choose_pool())
        result = verify("scenario-2.1", ["2.1-fa-sees-ciphertext"], existing=name)
        assert verdicts(result) == {"2.1-fa-sees-ciphertext": "reproduced"}, reasons(result)
        assert list(result[0]["backends"]) == [name]
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
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert not engine.containers({names.TOPOLOGY: name}) and not engine.networks({names.TOPOLOGY: name})
