"""The claims of scenario 2.1 for real, and sabotage: what contradicts the document must come out as refuted.

Each sabotage changes the topology the way a user would, with `--set` or in a copy of the file, and leaves the
claims and their controls as they are (where a claim's own run asks for what is sabotaged, the run).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from testbed.data import data_dir
from testbed.engine import names
from testbed.errors import UsageError
from testbed.experiment.evidence import Evidence
from testbed.experiment.pcap import read_capture
from testbed.experiment.plan import choose_claims, plan_labs
from testbed.experiment.verify import Verification
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
def verify(engine, node_image, tmp_path_factory):
    """Verify claims of a topology; returns what verdicts.json holds, and the evidence folder."""

    def run(ref, claims=(), sets=(), existing=None):
        loaded = load_topology(str(ref), sets=sets)
        chosen = choose_claims(loaded, claims)
        folder = tmp_path_factory.mktemp("evidence")
        verification = Verification(
            engine, node_image, choose_pool(), Evidence(folder), jobs=2, existing=existing
        )
        return verification.verify(loaded, chosen, plan_labs(loaded, chosen)), folder

    return run


def verdicts(result):
    return {one["id"]: one["verdict"] for one in result[0]["claims"]}


def reasons(result):
    return "\n".join(f"{one['id']}: {one['verdict']}: {one['reason']}" for one in result[0]["claims"])


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


def scenario(tmp_path, *changes):
    """A copy of scenario 2.1 (and the figures it uses) with pieces of text exchanged."""
    for name in ("figure-7", "figure-10"):
        shutil.copy(data_dir("topologies") / f"{name}.yaml", tmp_path)
    text = (data_dir("topologies") / "scenario-2.1.yaml").read_text()
    for name in ("figure-7", "figure-10"):
        text = text.replace(f"topology: {name}\n", f"topology: ./{name}.yaml\n")
    return exchange(tmp_path / "scenario-2.1.yaml", *changes, text=text)


def exchange(file, *changes, text=None):
    text = text or file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return file


def assert_refuted(result, *claims):
    assert verdicts(result) == dict.fromkeys(claims, "refuted"), reasons(result)


def test_a_gateway_that_forwards_everything(verify):
    claims = ["2.1-gateway-guards", "2.1-fa-cleartext-no-help"]
    assert_refuted(verify("scenario-2.1", claims, ["node.gw.passes=everything"]), *claims)


def test_a_gateway_that_forwards_registrations(verify):
    claims = ["2.1-fa-cleartext-no-help"]
    assert_refuted(verify("scenario-2.1", claims, ["node.gw.passes=registrations"]), *claims)


def test_ipsec_off(verify, tmp_path):
    file = scenario(tmp_path, ("&ipsec {stack: mip-in-ipsec", "&ipsec {stack: mip-only"))
    claims = ["2.1-colocated-registers", "2.1-colocated-renegotiates"]
    assert_refuted(verify(file, claims), *claims)


def test_dhcp_on_the_link_of_the_foreign_agent(verify, tmp_path):
    router = """  hotspot-router:
    roles: [router, dhcp-server]
    links: {internet: 203.0.113.11, hotspot: 198.51.100.2}
    settings: {dhcp-pool: 198.51.100.10-198.51.100.50}
  gw:
"""
    file = scenario(tmp_path, ("  gw:\n", router))
    claims = ["2.1-fa-registration-impossible", "2.1-fa-blocks-ipsec"]
    assert_refuted(verify(file, claims), *claims)


def test_a_foreign_agent_with_the_keys(verify, tmp_path):
    """It has a tunnel of its own to the gateway: the home agent is in reach, the link counts as inside."""
    file = scenario(
        tmp_path,
        (
            "hotspot: {subnet: 198.51.100.0/26, domain: internet",
            "hotspot: {subnet: 198.51.100.0/26, domain: intranet",
        ),
        (
            "  fa-hotspot:\n    roles: [router, foreign-agent]",
            "  fa-hotspot:\n    roles: [router, foreign-agent, vpn-gateway]",
        ),
        (
            "settings: {visited: hotspot, care-of: internet}",
            "settings: {visited: hotspot, care-of: hotspot, peer: gw, outside: internet,"
            " protects: 198.51.100.0/26}",
        ),
    )
    claims = ["2.1-fa-registration-impossible"]
    assert_refuted(verify(file, claims), *claims)


def test_a_bypass_lets_the_mobile_node_hear(verify, tmp_path):
    file = scenario(tmp_path, ('bypass: "off"', 'bypass: "on"'))
    claims = ["2.1-fa-mn-deaf"]
    assert_refuted(verify(file, claims), *claims)


def test_a_request_past_ipsec_is_seen(verify, tmp_path):
    file = scenario(
        tmp_path, ("register: {through: ipsec, within: 2s}", "register: {through: hotspot, within: 2s}")
    )
    claims = ["2.1-fa-sees-ciphertext"]
    assert_refuted(verify(file, claims), *claims)


def test_data_that_the_gateway_forwards(verify, tmp_path):
    file = scenario(tmp_path, ("node.gw.passes=registrations", "node.gw.passes=everything"))
    claims = ["2.1-fa-data-dropped"]
    assert_refuted(verify(file, claims), *claims)


def test_a_wlan_that_the_gateway_lets_in(verify, tmp_path):
    file = scenario(tmp_path)
    exchange(
        tmp_path / "figure-7.yaml",
        ("      outside: wlan\n", "      outside: wlan\n      passes: everything\n"),
    )
    claims = ["2.1-wlan-outside"]
    assert_refuted(verify(file, claims), *claims)


def test_a_trusted_fa_without_its_tunnel(verify, tmp_path):
    file = scenario(tmp_path)
    exchange(tmp_path / "figure-10.yaml", (", peer: gw}", "}"))
    claims = ["fig10-trusted-fa"]
    assert_refuted(verify(file, claims), *claims)


def test_an_intranet_that_loses_a_subnet(verify, tmp_path):
    old = "servers: 10.0.4.1}\n    routes: {default: 10.0.0.1}"
    file = scenario(
        tmp_path, (old, old.replace("default: 10.0.0.1}", "default: 10.0.0.1, 10.0.3.0/24: 10.0.0.99}"))
    )
    claims = ["2.1-inside-mobility"]
    assert_refuted(verify(file, claims), *claims)


def test_a_broken_control_is_never_success(verify):
    """Both runs see the same, because the control is sabotaged too: nobody can say anything."""
    result = verify("scenario-2.1", ["2.1-colocated-registers"], ["node.gw.passes=everything"])
    assert verdicts(result) == {"2.1-colocated-registers": "inconclusive"}
    assert "control" in result[0]["claims"][0]["reason"]


def test_a_dead_daemon_decides_nothing(verify, tmp_path):
    """The binding list cannot be read: neither its absence nor its presence is evidence."""
    step = "        - move: airport\n      expect:\n        - mobile-node: {state: registered"
    dead = step.replace(
        "      expect", "        - service: {node: ha, name: home-agent, state: down}\n      expect"
    )
    file = scenario(tmp_path, (step, dead))
    result = verify(file, ["2.1-colocated-registers"])
    assert verdicts(result) == {"2.1-colocated-registers": "inconclusive"}


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
