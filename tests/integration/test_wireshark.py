"""`verify --keys`: tshark decrypts the captures of real runs with what is written beside them."""

import os
import shutil
import stat
import subprocess

import pytest
from claims_world import reasons, verdicts

from testbed.evidence.folder import EvidenceFolder
from testbed.packet.decode import decode
from testbed.packet.layers import Esp

CLAIM = "2.2-ipsec-in-mip-mobile"
"""Its run has IPsec inside Mobile IP, from the home address; its control has Mobile IP inside IPsec."""

SIDES = ("main", "control")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def evidence(verify):
    result = verify("scenario-2.2", [CLAIM], keys=True)
    assert verdicts(result) == {CLAIM: "reproduced"}, reasons(result)
    return EvidenceFolder(result[1])


@pytest.fixture(scope="module")
def merged(evidence, tmp_path_factory):
    """The captures of the run and of its control, each of them in one file."""
    files = {side: tmp_path_factory.mktemp("merged") / f"{side}.pcapng" for side in SIDES}
    for side, file in files.items():
        captures = [capture for capture, _ in evidence.run(CLAIM, side).captures()]
        subprocess.run(["mergecap", "-w", file, *captures], check=True)
    return files


def tshark(file, tables, wanted, field):
    """A field of the frames of a capture that a display filter selects."""
    environment = os.environ | {"WIRESHARK_CONFIG_DIR": str(tables)}
    command = ["tshark", "-r", file, "-Y", wanted, "-T", "fields", "-e", field]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "Error" not in done.stderr, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("side", SIDES)
def test_tshark_decrypts_every_packet_of_a_run(evidence, merged, side, tmp_path):
    run, file = evidence.run(CLAIM, side), merged[side]
    tables = run.folder / "wireshark"
    assert {stat.S_IMODE(file.stat().st_mode) for file in tables.iterdir()} == {0o600}
    frames = [frame for _, frames in run.captures() for frame in frames]
    esp = sum(decode(one.data, one.linktype).first(Esp) is not None for one in frames)
    inner = tshark(file, tables, "esp", "frame.protocols")
    sent = [protocols for protocols in inner if ":icmp" not in protocols.partition(":esp")[0]]  # not quoted
    assert len(sent) == esp > 10
    assert all("esp:ip:" in protocols for protocols in sent), sent
    encrypted = "isakmp && isakmp.exchangetype != 34"  # all but IKE_SA_INIT
    assert tshark(file, tables, encrypted, "frame.number")
    assert tshark(file, tables, f"({encrypted}) && !isakmp.enc.decrypted", "frame.number") == []
    # IDi of IKE_AUTH; the run may go on with what was negotiated before its captures began.
    identified = tshark(file, tables, "isakmp.exchangetype == 35 && isakmp.typepayload == 35", "frame.number")
    assert identified or side == "main"
    without = tmp_path / "without"
    without.mkdir()
    assert not any("esp:ip" in one for one in tshark(file, without, "esp", "frame.protocols"))
    assert tshark(file, without, "isakmp.enc.decrypted", "frame.number") == []


def test_another_key_decrypts_nothing(evidence, merged, tmp_path):
    run = evidence.run(CLAIM, "control")
    wrong = shutil.copytree(run.folder / "wireshark", tmp_path / "wrong")
    table = wrong / "esp_sa"
    keys = dict.fromkeys(line.split(",")[5] for line in table.read_text().splitlines())
    text = table.read_text()
    for key in keys:
        text = text.replace(key, f'"0x{"00" * 20}"')
    table.write_text(text)
    assert not any("esp:ip:" in one for one in tshark(merged["control"], wrong, "esp", "frame.protocols"))
