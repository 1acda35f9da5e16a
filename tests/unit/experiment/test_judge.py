"""A run that was recorded is decided again from its files alone, and sabotage of the files is noticed."""

import json
import shutil
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from experiment_world import PlayedCaptures, PlayedLab, PlayedPulse, frame, play_captures
from scapy.layers.inet import IP, UDP

from testbed.claim.expect import WORDS
from testbed.claim.expect.binding import Binding
from testbed.claim.probe import ProbeReport
from testbed.claim.seen import Seen
from testbed.cli import main
from testbed.data import data_dir
from testbed.errors import TestbedError, UsageError
from testbed.evidence.archive import pack
from testbed.evidence.folder import EvidenceFolder
from testbed.experiment.claims.judge import _Wires
from testbed.experiment.claims.plan import PlannedRun, choose_claims
from testbed.experiment.claims.rejudge import judge_evidence
from testbed.experiment.claims.run import carry_out
from testbed.experiment.claims.verdict import claim_results, verdicts_of
from testbed.experiment.evidence import Evidence
from testbed.experiment.traffic import Probe
from testbed.packet.pcap import RAW_IP, read_capture, write_pcap
from testbed.packet.taps import TapFrames
from testbed.report.evidence import read_evidence
from testbed.report.page import render_report
from testbed.topology.load import load_topology

OWN = """\
name: own
title: A claim that sees something of every kind
include: [INCLUDED]
claims:
  mine:
    says: so it is
    source: §1
    run:
      steps:
        - move: hotel
        - probe: {action: start, to: cn}
        - expect: {packets: {at: mn/hotel, filter: udp dst port 434 and src host mn, exactly: 2}}
      expect:
        - packets: {at: mn/hotel, filter: udp dst port 434, exactly: 3}
        - binding: {care-of: 198.51.100.0/24}
        - event: {node: mn, name: registered, exactly: 1}
        - probe: {lost: {none: true}}
        - counter: {node: ha, name: requests-accepted, exactly: 2}
        - refused: {set: image.vpn-gateway=acme/gw, because: same node}
    control:
      steps: [{move: hotel}]
      expect: [{binding: {agent: ha}}]
"""
REQUESTS = [bytes(IP(src="10.0.1.100", dst="10.0.1.2") / UDP(sport=434, dport=434))] * 3
FOLDER = "claims/mine/main"


class Lab(PlayedLab):
    """It registers when it moves, and counts two requests."""

    def control(self, node, service, request, **more):
        answer = super().control(node, service, request, **more)
        if request["op"] == "move":
            row = {"home_address": "10.0.1.100", "care_of_addresses": ["198.51.100.70"]}
            self.states["ha", "home-agent"] = {"bindings": [row], "counters": {"requests-accepted": 9}}
            self.say("mn", "mobile-node", "registered")
        return answer


class Captures(PlayedCaptures):
    """Two requests are captured on the way, a third one before the end."""

    files: ClassVar = {"mn/hotel": REQUESTS}

    def look(self, taps):
        self.packets["mn/hotel", "udp dst port 434 and src host mn"] = REQUESTS[:2]
        self.total = 2
        return super().look(taps)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The evidence of a claim that is reproduced."""
    report = ProbeReport(0.005, {n: n * 5_000_000 for n in range(9)})
    report.reflected = report.returned = {n: stamp + 1 for n, stamp in report.sent.items()}
    root = tmp_path_factory.mktemp("recorded")
    file = root / "own.yaml"
    file.write_text(OWN.replace("INCLUDED", str(data_dir("topologies") / "scenario-2.1.yaml")))
    scenario = choose_claims(load_topology(str(file)), ["mine"])
    claim = scenario.claims["mine"]
    evidence = Evidence(root / "evidence")
    evidence.write_topology(scenario.loaded.text())
    results = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Probe, "start", lambda self: None)
        monkeypatch.setattr(Probe, "stop", lambda self: setattr(self, "_report", report) or report)
        play_captures(monkeypatch, Captures)
        for kind, experiment in (("run", claim.run), ("control", claim.control)):
            lab = Lab(str(file))
            lab.states["ha", "home-agent"]["counters"] = {"requests-accepted": 7}
            planned = PlannedRun("mine", kind, experiment)
            (results["mine", kind, 1],) = carry_out(lab, lab.name, PlayedPulse(), planned, evidence)
    evidence.write("verdicts.json", verdicts_of("own", {}, list(claim_results([scenario], results))))
    return evidence.root


@pytest.fixture
def folder(recorded, tmp_path):
    """A copy of that evidence, to be sabotaged."""
    return shutil.copytree(recorded, tmp_path / "evidence")


def judge(folder):
    (one,) = judge_evidence(EvidenceFolder(folder))
    return one


def lines(folder, name, change):
    """Put what `change` makes of its objects into a file of JSON lines of the run."""
    file = folder / FOLDER / name
    read = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(one) + "\n" for one in change(read)))


def look(folder, place, **changes):
    lines(
        folder,
        "observations.jsonl",
        lambda read: [one | changes if one["place"] == place else one for one in read],
    )


def test_what_was_recorded_is_decided_as_it_was(folder):
    one = judge(folder)
    assert one.stored.verdict == "reproduced", one.stored.reason
    assert one.same and not one.differences
    assert one.now == one.stored


def packet_removed(folder):
    file = folder / FOLDER / "captures/mn-hotel.pcap"
    write_pcap(file, RAW_IP, read_capture(file)[1:])


def packet_exchanged(folder):
    file = folder / FOLDER / "captures/mn-hotel.pcap"
    first, *others = read_capture(file)
    write_pcap(file, RAW_IP, [replace(first, data=others[-1].data), *others])


def state_edited(folder):
    row = {"home_address": "10.0.1.100", "care_of_addresses": ["192.0.2.7"]}
    look(folder, "expect/1", seen={"bindings": [row]})


def event_edited(folder):
    def change(read):
        return [one | {"event": "denied"} if one["event"] == "registered" else one for one in read]

    lines(folder, "events.jsonl", change)


def event_removed(folder):
    lines(folder, "events.jsonl", lambda read: [one for one in read if one["event"] != "registered"])


def cut_short(folder):
    file = folder / FOLDER / "captures/mn-hotel.pcap"
    file.write_bytes(file.read_bytes()[:-1])


def tap_file(name):
    def change(folder):
        file = folder / FOLDER / "captures.json"
        record = json.loads(file.read_text())
        record["taps"]["mn/hotel"]["file"] = name
        file.write_text(json.dumps(record))

    return change


def probe_row_removed(folder):
    def change(read):
        for one in read:
            if one["word"] == "probe":
                one["seen"]["returned"].pop()
        return read

    lines(folder, "observations.jsonl", change)


SABOTAGES = [
    (packet_removed, "inconclusive", "8 packets were captured at mn/hotel, of which 7 are left"),
    (packet_exchanged, "refuted", "exactly 2: 1 of 2 captured"),
    (state_edited, "refuted", "binding to 192.0.2.7"),
    (event_edited, "refuted", "0 seen"),
    (event_removed, "inconclusive", "events had arrived, of which"),
    (cut_short, "inconclusive", "the capture at mn/hotel cannot be read: it ends in the middle of a packet"),
    (tap_file("../../../../secret.pcap"), "inconclusive", "secret.pcap' is no file of the evidence"),
    (tap_file("/etc/hostname"), "inconclusive", "'/etc/hostname' is no file of the evidence"),
    (
        lambda folder: look(folder, "steps/2/expect", captured={"mn/hotel": 99}),
        "inconclusive",
        "99 packets were captured at mn/hotel, of which 8 are left",
    ),
    (probe_row_removed, "refuted", "9 sent, 1 lost"),
    (lambda folder: look(folder, "expect/4", seen={"requests-accepted": 8}), "refuted", "grew by 1"),
    (lambda folder: look(folder, "expect/4/begin", seen={"requests-accepted": 8}), "refuted", "grew by 1"),
    (lambda folder: look(folder, "expect/5", seen={"refusal": ""}), "refuted", "accepted"),
    (lambda folder: look(folder, "expect/0", captured={"mn/hotel": 2}), "refuted", "2 of 2 captured"),
    (lambda folder: look(folder, "expect/1", error="ha is silent"), "inconclusive", "ha is silent"),
    (lambda folder: look(folder, "expect/1", seen=[7]), "inconclusive", "no sight of binding"),
    (lambda folder: lines(folder, "observations.jsonl", lambda read: []), "inconclusive", "is not recorded"),
    (
        lambda folder: (folder / FOLDER / "captures/mn-hotel.pcap").unlink(),
        "inconclusive",
        "the capture at mn/hotel cannot be read: No such file or directory",
    ),
    (lambda folder: (folder / FOLDER / "captures.json").unlink(), "inconclusive", "no capture at mn/hotel"),
    (lambda folder: (folder / FOLDER / "run.json").unlink(), "inconclusive", "run.json is missing"),
]


@pytest.mark.parametrize(
    ("sabotage", "verdict", "reason"), SABOTAGES, ids=[reason for *_, reason in SABOTAGES]
)
def test_sabotage_turns_the_verdict_and_says_by_what(folder, sabotage, verdict, reason):
    sabotage(folder)
    one = judge(folder)
    assert one.now.verdict == verdict and reason in one.now.reason
    assert not one.same and one.differences
    assert one.differences[0].stored.held


def test_a_machine_that_was_busy_is_no_refutation_again(folder):
    event_edited(folder)
    file = folder / FOLDER / "run.json"
    record = json.loads(file.read_text())
    record["health"]["late_ms"] = 380.0
    file.write_text(json.dumps(record))
    one = judge(folder)
    assert one.now.verdict == "inconclusive" and "380 ms late" in one.now.reason


def test_the_command(folder, capsys, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert main(["judge", str(folder)]) == 0
    assert "1 of 1 reproduced; 1 of 1 as stored" in capsys.readouterr().out
    event_edited(folder)
    assert main(["judge", str(folder), "--claim", "mine"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "mine is refuted: events registered of mn: exactly 1: 0 seen" in out
    assert "stored: holds: 1 seen judged: does not hold: 0 seen" in out
    assert main(["judge", str(folder), "-o", "json"]) == 1
    (claim,) = json.loads(capsys.readouterr().out)["claims"]
    assert (claim["verdict"], claim["stored"]) == ("refuted", "reproduced")
    assert [one["judged"]["observed"] for one in claim["differences"]] == ["0 seen"]
    assert main(["judge", str(folder), "--claim", "mien"]) == 2
    assert "did you mean mine?" in capsys.readouterr().err
    assert main(["judge", str(folder), "--claim", "m*"]) == 1
    assert "0 of 1 reproduced" in capsys.readouterr().out
    assert main(["judge", str(folder), "--claim", "n*"]) == 2
    assert "known: mine" in capsys.readouterr().err


def test_evidence_that_cannot_be_judged_says_why(folder, tmp_path):
    file = folder / "verdicts.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 1}))
    with pytest.raises(UsageError, match="an older testbed, which did not record"):
        judge(folder)
    with pytest.raises(UsageError):
        judge(tmp_path / "nowhere")
    file.write_text(json.dumps({"schema_version": 2, "claims": []}))
    assert main(["judge", str(folder)]) == 2  # nothing decided is not everything reproduced


@pytest.mark.parametrize("name", ["/etc/hostname", "../topology.yaml", "topologies/../../own.yaml", "", "."])
def test_a_topology_outside_of_the_evidence_is_not_read(folder, name):
    file = folder / FOLDER / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"topology": name}))
    with pytest.raises(TestbedError, match="is no file of the evidence"):
        judge(folder)


def test_evidence_that_is_nested_too_deep_is_one_clear_error(folder):
    (folder / FOLDER / "observations.jsonl").write_text("[" * 100_000 + "\n")
    with pytest.raises(TestbedError, match="not JSON") as caught:
        judge(folder)
    assert str(caught.value.source).endswith("observations.jsonl:1")


def test_every_fault_of_a_topology_in_an_archive_names_the_archive(folder, tmp_path, capsys):
    path = tmp_path / "evidence.zip"
    (folder / "topology.yaml").write_text("name: own\n")
    pack(folder, path, tmp_path / "part")
    assert main(["judge", str(path)]) == 4
    error = capsys.readouterr().err
    assert error.count(f"{path}/topology.yaml:1:1: ") == 3 and "/testbed-evidence-" not in error


def test_what_a_capture_had_before_it_died_is_seen_at_a_look():
    """A dead capture proves no silence, but an answer that it has was sent."""
    dead = TapFrames("gw/internet", (frame(bytes(28)),) * 3, alive=False)
    wires = _Wires(lambda name: dead, {}, {"firewall/internet": 0})
    (found,) = wires.match_all(["gw/internet"], "")
    assert (len(found.frames), found.alive) == (3, False)


def test_evidence_without_its_topology_is_incomplete(folder, capsys):
    (folder / "topology.yaml").unlink()
    assert main(["judge", str(folder)]) == 2
    error = capsys.readouterr().err
    assert f"{folder} has no topology.yaml" in error and "the evidence is incomplete" in error


def test_a_stored_topology_includes_nothing(folder, tmp_path):
    """Evidence is anybody's: what it includes could be any file of this machine."""
    (tmp_path / "secret.yaml").write_text("name: secret\ntitle: hidden-word\n")
    file = folder / "topology.yaml"
    file.write_text(f"include: [{tmp_path}/secret.yaml]\n{file.read_text()}")
    with pytest.raises(TestbedError, match="include nothing") as caught:
        judge(folder)
    assert str(caught.value.source) == f"{file}:1:10" and "hidden-word" not in str(caught.value)


def test_verdicts_without_a_version_are_refused(folder, capsys):
    file = folder / "verdicts.json"
    verdicts = json.loads(file.read_text())
    for version in ({}, {"schema_version": None}, {"schema_version": True}, {"schema_version": "2"}):
        file.write_text(json.dumps({k: v for k, v in verdicts.items() if k != "schema_version"} | version))
        assert main(["judge", str(folder)]) == 2
        error = capsys.readouterr().err
        assert f"{file}: evidence that does not say its schema version" in error


def test_a_mistake_of_ours_is_none_of_the_evidence(folder, monkeypatch):
    def mistaken(self, sight):
        raise AttributeError("a mistake")

    monkeypatch.setattr(Binding, "judge", mistaken)
    with pytest.raises(AttributeError, match="a mistake"):
        judge(folder)


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.word)
def test_every_word_says_what_it_records(word):
    """So that evidence in which something else is recorded decides nothing."""
    looks = word.look is not Seen.look or word.begin is not Seen.begin
    assert (word.SEEN is not Any) is looks
    assert not looks or not word.is_sight([7])


NO_SIGHTS = [
    ("expect/1", {"bindings": [{"care_of_addresses": ["mars"]}]}),
    ("expect/3", {"every": 1, "sent": [[1]], "reflected": [], "returned": []}),
    ("expect/4", {"requests-accepted": "many"}),
    ("expect/4/begin", []),
    ("expect/5", {"refusal": None}),
]


@pytest.mark.parametrize(("place", "seen"), NO_SIGHTS)
def test_what_no_look_returns_decides_nothing(folder, place, seen):
    look(folder, place, seen=seen)
    one = judge(folder)
    assert one.now.verdict == "inconclusive" and "is no sight of" in one.now.reason


def test_what_was_counted_before_may_be_missing(folder):
    lines(folder, "observations.jsonl", lambda read: [one for one in read if "begin" not in one["place"]])
    assert "had counted before is not recorded" in judge(folder).now.reason


def own_gateway(folder):
    """A template folder with a gateway of one's own."""
    text = (data_dir("templates") / "roles" / "vpn-gateway.yaml").read_text()
    text = text.replace("name: vpn-gateway", "name: x-gateway\nacts-as: [vpn-gateway]")
    (folder / "roles").mkdir(parents=True)
    (folder / "roles" / "x-gateway.yaml").write_text(text.replace("label: VPN gateway", "label: Our gateway"))
    return folder


def test_roles_of_ones_own_travel_with_the_evidence(folder, tmp_path):
    file, templates = tmp_path / "own.yaml", own_gateway(tmp_path / "templates")
    nodes = "nodes: {gw: {roles: [router, ospf, x-gateway]}}\n"
    included = str(data_dir("topologies") / "scenario-2.1.yaml")
    file.write_text(OWN.replace("INCLUDED", included) + nodes)
    loaded = load_topology(str(file), templates=templates)
    evidence = Evidence(folder)
    evidence.keep_roles(loaded)
    evidence.write_topology(loaded.text())
    shutil.rmtree(templates)
    assert judge(folder).same
    assert "Our gateway" in render_report(read_evidence(folder))
    stored = {one.stem for one in (folder / "roles").iterdir()}
    assert {"x-gateway", "vpn-gateway", "home-agent"} <= stored
    (folder / "roles" / "x-gateway.yaml").unlink()
    with pytest.raises(TestbedError, match="unknown role x-gateway"):
        judge(folder)
