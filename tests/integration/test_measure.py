"""The hand-off measurement for real: two moves at one round-trip time."""

import json

import pytest

from testbed.cli import main
from testbed.lab.state import read_labs
from testbed.packet.pcap import read_capture

pytestmark = pytest.mark.timeout(120)


def test_two_moves(engine, node_image, tmp_path, capsys):
    name, folder = "test-measure", tmp_path / "evidence"
    options = ["--moves", "2", "--rtt", "40ms", "--name", name, "--evidence", str(folder), "-o", "json"]
    assert main(["measure", "handoff", "plain-mip", *options]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((folder / "handoff.json").read_text())
    (run,) = document["runs"]
    assert [(move["from"], move["to"]) for move in run["moves"]] == [
        ("hotel", "airport"),
        ("airport", "hotel"),
    ]
    # Registration and data; the hub may delay a little more than it was asked to.
    assert run["round_trips"] == 2 and run["measured_rtt_ms"] >= 40
    assert run["reaction_ms"] is not None and run["budget_ms"] == 30
    assert run["carriers"].keys() >= {"ha/home-agent", "core/relay"}
    for move in run["moves"]:
        # Registration and the first packet take a round trip each. On a busy machine they take longer, and
        # the probe's packets are further apart than its 5 ms.
        assert move["outage_ms"] >= 80
        assert 0 < move["lost"] <= move["outage_ms"] / 5 + 12
        assert move["timeline"]["registration"] >= 40 and move["timeline"]["ike"] is None
        assert (move["ike_messages"], move["mip_messages"]) == (0, 2)
    assert read_capture(folder / "handoff/mip-only/40ms/mn-hotel.pcap")
    assert name not in read_labs(engine)
