"""Solutions and guidelines: what is chosen and shared, and for each guideline a sabotage that breaks it."""

import json
from types import SimpleNamespace

import pytest
from experiment_world import PlayedLab, PlayedPulse, play_captures
from scapy.contrib.ikev2 import IKEv2, IKEv2_Notify
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP
from scapy.packet import Raw

from testbed.agreed import READABLE
from testbed.errors import MachineError, UsageError
from testbed.evidence.folder import EvidenceFolder, RunFolder, capture_path
from testbed.evidence.health import Health
from testbed.evidence.run import CapturedTap, CaptureRecord, EventRecord, Observation, RunRecord
from testbed.experiment.claims import verify
from testbed.experiment.claims.judge import Recording, judge_run
from testbed.experiment.claims.plan import Scenario, plan_stages, share_labs
from testbed.experiment.claims.rejudge import judge_evidence
from testbed.experiment.claims.run import carry_out
from testbed.experiment.claims.solutions import choose_solutions
from testbed.experiment.claims.verdict import Finding, RunResult, claim_results, verdicts_of
from testbed.experiment.evidence import Evidence
from testbed.packet.pcap import RAW_IP, Frame, write_pcap
from testbed.report.solutions import markdown, rows
from testbed.topology.load import builtin_topologies, load_topology
from testbed.topology.names import host_addresses

GOOD = RunResult([Finding("it is so", True, "seen")])
BAD = RunResult([Finding("it is so", False, "something else")])
CLIENT, GATEWAY = "198.51.100.70", "203.0.113.2"
NOTHING = load_topology("solutions/nothing")


# What is chosen


def test_all_built_in_solutions_by_default_and_what_they_are_compared_with_first() -> None:
    names = [one.loaded.name for one in choose_solutions()]
    assert names[0] == "nothing" and len(names) == sum("solutions/" in one for one in builtin_topologies())


def test_a_solution_is_judged_beside_what_it_is_compared_with() -> None:
    assert [one.prefix for one in choose_solutions(["trusted-fa"])] == ["nothing.", "trusted-fa."]
    alone = choose_solutions(["solutions/trusted-fa"], ["5.6"])
    assert [one.loaded.name for one in alone] == ["trusted-fa"]  # 5.6 is compared with nothing
    assert list(alone[0].claims) == ["5.6-no-negotiation", "5.6-no-authentication"]


@pytest.mark.parametrize(
    ("names", "guidelines", "message", "hint"),
    [
        (["nothing"], ["5.66"], "there is no guideline 5.66", "did you mean 5.6?"),
        (["plain-mip"], [], "plain-mip has no guidelines that it is judged by", "shared/guidelines.yaml"),
        (["nothign"], [], "no topology called nothign", "solutions/nothing"),
    ],
)
def test_what_is_no_solution_or_guideline(names, guidelines, message, hint) -> None:
    with pytest.raises(UsageError) as caught:
        choose_solutions(names, guidelines)
    assert message in str(caught.value) and hint in str(caught.value.hint)


# Runs carried out as one


def test_runs_with_the_same_steps_in_the_same_lab_are_carried_out_as_one() -> None:
    chosen = choose_solutions(["trusted-fa"], ["5.2", "5.3", "5.4", "5.8"])
    apart = [run for stage in plan_stages(chosen) for run in stage.runs]
    shared = [run for stage in plan_stages(chosen, share=True) for run in stage.runs]
    assert sorted(one.claim for run in shared for one in run.all) == sorted(one.claim for one in apart)
    tours = [run for run in shared if "office" in run.experiment.steps[-1].phrase()]
    assert [len(run.all) for run in tours] == [7]
    for lab in share_labs(plan_stages(chosen, share=True), 2):
        assert lab.seconds > 0
    expected = [one for run in tours[0].all for one in run.experiment.expect]
    whole = tours[0].whole.expect
    assert len(whole) < len(expected) and all(one in whole for one in expected)


OWN = """\
name: own
title: Claims that share a run
include: [plain-mip.yaml]
trials:
  stay: {steps: [{move: home}, {expect: {mobile-node: not-registered}}]}
claims:
  first:
    says: so it is
    source: §1
    run: {trial: stay, expect: [{binding: {agent: ha, present: false}}, {mobile-node: not-registered}]}
    control: {trial: stay, expect: [{binding: {agent: ha, present: false}}]}
  second:
    says: so it is, too
    source: §1
    run: {trial: stay, expect: [{mobile-node: not-registered}, {counter: {node: ha, name: odd, at-least: 1}}]}
    control: {trial: stay, expect: [{mobile-node: not-registered}]}
"""


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """The evidence of two claims whose four runs were carried out as one, and the results."""
    file = tmp_path / "own.yaml"
    file.write_text(OWN)
    loaded = load_topology(str(file))
    scenario = Scenario(loaded, loaded.topology.claims, "own.")
    (stage,) = plan_stages([scenario], share=True)
    (planned,) = stage.runs
    play_captures(monkeypatch)
    evidence = Evidence(tmp_path / "evidence")
    evidence.write_topology(loaded.text(), "own")
    lab = PlayedLab(str(file))
    lab.states["ha", "home-agent"]["counters"] = {"odd": 7}
    results = carry_out(lab, lab.name, PlayedPulse(), planned, evidence)
    keys = [(one.claim, one.kind, one.number) for one in planned.all]
    verdicts = verdicts_of("", {}, list(claim_results([scenario], dict(zip(keys, results, strict=True)))))
    evidence.write("verdicts.json", verdicts)
    return SimpleNamespace(root=evidence.root, planned=planned, results=results, verdicts=verdicts)


def test_each_claim_is_judged_by_what_it_expects_itself(shared) -> None:
    by_claim = {
        (one.claim, one.kind): result for one, result in zip(shared.planned.all, shared.results, strict=True)
    }
    assert [len(result.findings) for result in by_claim.values()] == [3, 2, 3, 2]
    assert by_claim["own.first", "run"].verdict == "held"
    failed = by_claim["own.second", "run"]
    assert failed.verdict == "failed" and "grew by 0" in failed.reason
    assert [one.verdict for one in shared.verdicts.claims] == ["reproduced", "refuted"]


def test_what_shares_a_run_has_no_recording_of_its_own_and_is_decided_again_alike(shared) -> None:
    folder = EvidenceFolder(shared.root)
    first, second = folder.run("own.first", "main"), folder.run("own.second", "main")
    assert second.record.recorded == "claims/own.first/main/" and not first.record.recorded
    assert not (second.folder / "captures").exists() and second.arrived == first.arrived
    assert [one.place for one in second.observations] == [
        "expect/1/begin",
        "steps/1/expect",
        "expect/0",
        "expect/1",
    ]
    again = judge_evidence(folder)
    assert all(one.same and not one.differences for one in again)
    assert [one.now.id for one in again] == ["own.first", "own.second"]


def test_a_recording_elsewhere_than_in_the_evidence_is_not_followed(shared) -> None:
    folder = EvidenceFolder(shared.root)
    file = folder.run("own.second", "main").folder / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "recorded": "../../elsewhere"}))
    run = EvidenceFolder(shared.root).run("own.second", "main")
    assert run.recording == run.folder and not run.arrived


# For each guideline what breaks it


def packet(text=b"", **ip):
    return IP(src=CLIENT, dst=GATEWAY, **ip) / text


ESP_PACKETS = [bytes(packet(ESP(spi=spi, seq=1, data=b"\1" * 40))) for spi in (0xC0000001, 0xC0000002)]
REQUEST = bytes(
    IP(src="10.0.250.1", dst="10.0.1.2")
    / UDP(sport=434, dport=434)
    / bytes.fromhex("010202580a0001640a0001020a00fa01ec0d6f81000000002014000001000000" + "ab" * 14)
)


def ike_init(*notifies: int) -> bytes:
    message = IKEv2(init_SPI=b"abcdefgh", exch_type=34, flags="Initiator", next_payload="Notify")
    for number in notifies:
        message = message / IKEv2_Notify(type=number)
    return bytes(packet(UDP(sport=500, dport=500) / message))


def ike(exchange: int) -> bytes:
    message = IKEv2(init_SPI=b"abcdefgh", exch_type=exchange, flags="Initiator", id=1, next_payload=0)
    return bytes(packet(UDP(sport=500, dport=500) / message))


def unregistered(message: bytes) -> bytes:
    return bytes(packet(UDP(sport=434, dport=434) / Raw(message)))


SIGHTS = {
    "reachable": {"sent": 3, "answered": 3},
    "session": {"within": 8.0, "alive": True, "after": 0.1},
    "accepted": {"refusal": ""},
    "changed": {},
    "added": {},
    "combined": {},
    "ike-beyond": ["IKE_AUTH request: IDi N(INIT_CONTACT) AUTH CPRQ(ADDR) SA TSi TSr"],
}
"""What is seen where all is well, by the expectation's word; None for others."""
IN_UDP = [bytes(packet(UDP(sport=4500, dport=4500) / Raw(b"\xc0" + b"\1" * 40)))]
PACKETS = {
    "ha/home": [REQUEST],
    "gw/internet": [ike_init(16388), *ESP_PACKETS],
    "mn/cafe": IN_UDP,
    "mn/cafe-2": IN_UDP,
}
"""What is captured where all is well; at every other tap IPsec."""


def crowd(messages, bindings, associations):
    """Events and packets of 1, 2 and 4 mobile nodes that join one after the other and then all move."""
    events, times, clock = [], [], 100.0

    def say(node, name, state="registered"):
        events.append({"node": node, "event": name, "source": "roam", "state": state, "monotonic": clock})

    away = []
    for joining in (["mn"], ["mn-1"], ["mn-2", "mn-3"]):
        for node in joining:
            clock += 1
            say(node, "move-started")
            clock += 1
            say(node, "settled")
        away += joining
        for home in range(bindings(len(away))):
            bound = {"node": "ha", "event": "binding", "source": "home-agent", "home_address": str(home)}
            events.append(bound | {"monotonic": clock})
        number = associations(len(away))
        sas = {"node": "gw", "event": "associations", "source": "charon", "ike": number, "child": number}
        events.append(sas | {"monotonic": clock})
        clock += 1
        for node in away:
            say(node, "move-started")
        times += [clock + 0.1] * messages(len(away))
        clock += 1
        for node in away:
            say(node, "settled")
        clock += 5
    return events, times


def recorded(
    tmp_path,
    experiment,
    *,
    sights=None,
    packets=None,
    messages=lambda nodes: 6 * nodes,
    bindings=lambda nodes: nodes,
    associations=lambda nodes: nodes,
    registered=3,
    solution=NOTHING,
    late=0.0,
):
    """The result of a run in which all was well, but for what is given."""
    sights, packets = sights or {}, packets or {}
    (tmp_path / "captures").mkdir(parents=True, exist_ok=True)
    events, times = crowd(messages, bindings, associations)
    events += [{"node": "mn", "event": "registered", "source": "mobile-node", "monotonic": 1.0}] * registered
    taps = {}
    for _, expectation in experiment.expectations():
        for tap in expectation.part.taps(solution):
            own = packets.get(tap, PACKETS.get(tap, ESP_PACKETS))
            frames = [Frame(10**9, RAW_IP, one, len(one)) for one in own]
            if expectation.word == "growth":
                one = ike(34)
                frames = [Frame(int((1000 + time) * 1e9), RAW_IP, one, len(one)) for time in times]
            write_pcap(tmp_path / capture_path(tap), RAW_IP, frames)
            taps[tap] = CapturedTap(file=capture_path(tap), alive=True, frames=len(frames))
    looks = [
        Observation(
            place="/".join(map(str, where)),
            word=one.word,
            began=1.0,
            ended=1.0,
            events=len(events),
            marked=True,
            seen=sights.get((one.word, getattr(one.part, "what", None)), SIGHTS.get(one.word)),
        )
        for where, one in experiment.expectations()
        if where[-1] != "wait-until"
    ]
    for look in looks:
        if look.word == "received":
            exactly = next(e.part for _, e in experiment.expectations() if e.word == "received").exactly
            seen = sights.get(("received", None), exactly or 0)
            looks[looks.index(look)] = look.model_copy(update={"seen": seen})
    Evidence.write_observations(tmp_path, looks)
    Evidence.write_events(
        tmp_path, [EventRecord.model_validate(one | {"wall": 1000 + one["monotonic"]}) for one in events]
    )
    Evidence.write_captured(tmp_path, CaptureRecord(taps=taps))
    record = RunRecord(claim="x", run="main", lab="x", began=0.0, ended=1.0, health=Health(late_ms=late))
    Evidence.write_run(tmp_path, record)
    recording = Recording(RunFolder(tmp_path), record, "x/", solution, host_addresses(solution))
    return judge_run(experiment, recording)


APART = ("5.1-untold-exit", "5.10-a1", "5.10-a2", "5.10-a3", "5.10-a7", "5.10-a8", "5.10-a9", "5.10-a10")
"""Claims whose runs are not played here; they come out as they should."""


def cell(tmp_path, guideline, **changes):
    """The cell of a solution in whose runs all was well, but for what is given; `nothing` is beside it."""
    mine = Scenario(NOTHING, NOTHING.topology.claims, "mine.")
    results = {}
    for name, claim in mine.claims.items():
        for kind, side in (("run", claim.experiments("run")), ("control", claim.experiments("control"))):
            for number, (_, experiment) in enumerate(side, 1):
                results[f"mine.{name}", kind, number] = results[f"nothing.{name}", kind, number] = GOOD
                if kind == "run" and guideline in claim.guideline and name not in APART:
                    results[f"mine.{name}", kind, number] = recorded(
                        tmp_path / f"{name}-{number}",
                        experiment,
                        **changes,
                    )
    beside = Scenario(NOTHING, NOTHING.topology.claims, "nothing.")
    decided = list(claim_results([beside, mine], results))
    renamed = [one.record().model_copy(update={"scenario": one.id.partition(".")[0]}) for one in decided]
    verdicts = verdicts_of("", {}, []).model_copy(update={"claims": renamed})
    topologies = {"nothing": NOTHING.topology, "mine": NOTHING.topology}
    (row,) = (row for row in rows(verdicts, topologies, [guideline]) if row.name == "mine")
    return row.cells[0]


DENIED = [unregistered(bytes((3, 131)) + bytes(18))]
"""A registration reply: the mobile node failed authentication (RFC 5944 §3.4)."""
SABOTAGE = {
    "5.1 a service more at the gateway": ("5.1", {"sights": {("changed", "services"): {"wg": "added"}}}),
    "5.1 payload in clear at the hotspot": (
        "5.1",
        {"packets": {"mn/hotspot": [*ESP_PACKETS, bytes(packet(UDP(dport=7) / Raw(READABLE.encode())))]}},
    ),
    "5.1 forged data is delivered": ("5.1", {"sights": {("received", None): 3}}),
    "5.2 another binary": ("5.2", {"sights": {("changed", "software"): {"/usr/lib/ipsec/charon": "not as"}}}),
    "5.3 a private notify message": ("5.3", {"packets": {"gw/internet": [ike_init(16388, 40961)]}}),
    "5.3 a private payload inside": ("5.3", {"sights": {("ike-beyond", None): ["IKE_AUTH request: IDi XY"]}}),
    "5.3 another protocol at the gateway": (
        "5.3",
        {"packets": {"gw/internet": [*ESP_PACKETS, bytes(packet(UDP(dport=51820) / Raw(b"\1\0\0\0")))]}},
    ),
    "5.4 two parts in one machine": (
        "5.4",
        {"sights": {("combined", None): {"gw": ["vpn-gateway", "home-agent"]}}},
    ),
    "5.4 a part that cannot be exchanged": (
        "5.4",
        {"sights": {("session", None): {"within": 2.0, "alive": False}}},
    ),
    "5.5 a message of type 200": ("5.5", {"packets": {"ha/home": [REQUEST, unregistered(b"\xc8hello")]}}),
    "5.5 extension 60": ("5.5", {"packets": {"ha/home": [unregistered(b"\1" + bytes(23) + b"\x3c\2??")]}}),
    "5.5 an authenticator that is wrong": ("5.5", {"packets": {"ha/home": [REQUEST, *DENIED]}}),
    "5.6 IKE_AUTH on a move": ("5.6", {"packets": {"mn/airport": [*ESP_PACKETS, ike(35)]}}),
    "5.7 every node registers all": ("5.7", {"messages": lambda nodes: 6 * nodes * nodes}),
    "5.7 every node is bound by all": ("5.7", {"bindings": lambda nodes: nodes * nodes}),
    "5.7 an association for each two nodes": ("5.7", {"associations": lambda nodes: nodes * nodes}),
    "5.8 a firewall": ("5.8", {"sights": {("added", None): {"fw": ["firewall"]}}}),
    "5.9 IP-in-IP at the café": ("5.9", {"packets": {"mn/cafe": [bytes(packet(IP() / UDP(), proto=4))]}}),
    "5.9 the session breaks": ("5.9", {"sights": {("session", None): {"within": 2.0, "alive": False}}}),
    "5.10 forged data is delivered": ("5.10", {"sights": {("received", None): 3}}),
}


@pytest.mark.parametrize("guideline", list(NOTHING.topology.guidelines))
def test_where_all_is_well_every_guideline_is_followed(guideline, tmp_path) -> None:
    found = cell(tmp_path, guideline)
    assert (found.state, found.why) == ("works", "")


@pytest.mark.parametrize("name", SABOTAGE)
def test_sabotage_turns_it_to_a_failure(name, tmp_path) -> None:
    guideline, change = SABOTAGE[name]
    found = cell(tmp_path, guideline, **change)
    assert found.state == "fails" and found.claims, found
    assert found.broken == (found.about.level in ("MUST", "MUST NOT"))


def test_every_guideline_has_a_sabotage() -> None:
    assert {guideline for guideline, _ in SABOTAGE.values()} == set(NOTHING.topology.guidelines)


@pytest.mark.parametrize(
    ("guideline", "change"),
    [
        (
            "5.2",
            {"sights": {("changed", "configuration"): {"/etc/swanctl/swanctl.conf": ["+ mobike = yes"]}}},
        ),
        ("5.3", {"packets": {"gw/internet": [ike_init(16388, 16396)]}}),  # MOBIKE_SUPPORTED (RFC 4555 §4.2.1)
        ("5.5", {"sights": {("changed", "configuration"): {"/etc/mobileip/home-agent.toml": ["+ a = 1"]}}}),
        ("5.6", {"packets": {"mn/airport": [*ESP_PACKETS, ike(36)]}}),  # CREATE_CHILD_SA
    ],
)
def test_a_guideline_that_is_followed_at_a_cost(guideline, change, tmp_path) -> None:
    found = cell(tmp_path, guideline, **change)
    assert found.state == "costs" and found.why


@pytest.mark.parametrize(
    ("solution", "held", "observed"),
    [
        ("solutions/nothing", None, "0 seen"),  # a machine as slow as this may be why
        ("solutions/wireguard", False, "0 seen, as mn has no service mobile-node"),
    ],
)
def test_what_a_node_does_not_run_is_silent_on_any_machine(solution, held, observed, tmp_path) -> None:
    solution = load_topology(solution)
    (experiment,) = (one for _, one in solution.topology.claims["5.5-agents-kept"].experiments("run"))
    result = recorded(tmp_path, experiment, registered=0, solution=solution, late=150.0)
    assert (result.findings[0].held, result.findings[0].observed) == (held, observed)


# The grid


def test_the_grid_in_markdown_begins_with_what_is_broken(tmp_path) -> None:
    claims = NOTHING.topology.claims
    scenario = Scenario(NOTHING, claims, "nothing.")
    results = {
        (f"nothing.{name}", kind, number): BAD if name.startswith("5.6") and kind == "run" else GOOD
        for name, claim in claims.items()
        for kind in ("run", "control")
        for number, _ in enumerate(claim.experiments(kind), 1)
    }
    verdicts = verdicts_of("", {}, list(claim_results([scenario], results)))
    (row,) = rows(verdicts, {"nothing": NOTHING.topology})
    assert row.broken == ("5.6",) and row.listed[0].guideline == "5.6"
    assert [cell.guideline for cell in row.cells][-1] == "5.10"
    text = markdown([row])
    assert "| nothing | ✓ | ✓ | ✓ | ✓ | ✓ | ✗ | ✓ | ✓ | ✓ | ✓ | ✗ 5.6 |" in text
    assert "- ✗ nothing 5.6 (MUST): it is so: something else" in text


def test_a_control_that_does_not_come_out_decides_nothing() -> None:
    claims = {name: claim for name, claim in NOTHING.topology.claims.items() if "5.4" in claim.guideline}
    scenario = Scenario(NOTHING, claims, "nothing.")
    results = {("nothing.5.4-parts-apart", "run", 1): GOOD, ("nothing.5.4-parts-apart", "control", 1): BAD}
    verdicts = verdicts_of("", {}, list(claim_results([scenario], results)))
    (row,) = rows(verdicts, {"nothing": NOTHING.topology}, ["5.4"])
    assert row.cells[0].state == "undecided" and "the control failed" in row.cells[0].why


def test_what_fails_of_nothing_as_well_is_not_held_against_a_solution() -> None:
    claims = {name: claim for name, claim in NOTHING.topology.claims.items() if "5.10" in claim.guideline}
    results = {}
    for solution in ("nothing", "mine"):
        for name, claim in claims.items():
            for kind in ("run", "control"):
                for number, _ in enumerate(claim.experiments(kind), 1):
                    results[f"{solution}.{name}", kind, number] = GOOD
    scenarios = [Scenario(NOTHING, claims, f"{solution}.") for solution in ("nothing", "mine")]

    def found():
        decided = [
            one.record().model_copy(update={"scenario": one.id.partition(".")[0]})
            for one in claim_results(scenarios, results)
        ]
        verdicts = verdicts_of("", {}, []).model_copy(update={"claims": decided})
        made = rows(verdicts, {"nothing": NOTHING.topology, "mine": NOTHING.topology}, ["5.10"])
        return {row.name: row.cells[0].state for row in made}

    results["mine.5.10-a9", "run", 1] = BAD
    assert found() == {"nothing": "works", "mine": "fails"}
    results["nothing.5.10-a9", "run", 1] = BAD
    assert found()["mine"] == "works"


def grid_of(guideline, came, without=(), topology=NOTHING):
    """The cell of a solution: claim → what its run came to, else it held; `without` were not tried."""
    claims = {
        name: claim
        for name, claim in topology.topology.claims.items()
        if guideline in claim.guideline and name not in without
    }
    scenario = Scenario(topology, claims, "mine.")
    results = {
        (f"mine.{name}", kind, number): came.get(name, GOOD) if kind == "run" else GOOD
        for name, claim in claims.items()
        for kind in ("run", "control")
        for number, _ in enumerate(claim.experiments(kind), 1)
    }
    beside = Scenario(NOTHING, claims, "nothing.")
    held = {("nothing" + key[0][4:], *key[1:]): GOOD for key in results}
    decided = [
        one.record().model_copy(update={"scenario": one.id.partition(".")[0]})
        for one in claim_results([beside, scenario], results | held)
    ]
    verdicts = verdicts_of("", {}, []).model_copy(update={"claims": decided})
    made = rows(verdicts, {"nothing": NOTHING.topology, "mine": topology.topology}, [guideline])
    return next(row for row in made if row.name == "mine").cells[0]


UNKNOWN = RunResult([Finding("it is so", None, "nobody knows")])


@pytest.mark.parametrize(
    ("came", "state"),
    [
        ({}, "works"),
        ({"5.10-a10": BAD}, "costs"),
        ({"5.10-a10": BAD, "5.10-a10-residual": BAD}, "fails"),
        ({"5.10-a10": BAD, "5.10-a10-residual": UNKNOWN}, "undecided"),
        ({"5.10-a10": BAD, "5.10-a4": BAD}, "fails"),  # what stands instead of one excuses no other
        ({"5.10-a10": BAD, "5.10-a4": UNKNOWN}, "undecided"),
        ({"5.10-a10-residual": BAD}, "works"),
        ({"5.10-a4": BAD}, "fails"),
    ],
)
def test_a_residual_that_the_document_names_is_a_cost(came, state) -> None:
    found = grid_of("5.10", came)
    assert found.state == state
    if state == "costs":
        assert "something else; Residual, documented" in found.why
        assert found.claims == ("mine.5.10-a10-residual", "mine.5.10-a10")


VENDORS = ("5.4-libreswan", "5.4-openiked")


def test_what_the_machine_or_the_topology_lacks_is_named_and_no_failure() -> None:
    found = grid_of("5.4", {}, VENDORS)
    assert (found.state, found.why) == ("works", f"not tried without ESP in the kernel: {', '.join(VENDORS)}")
    found = grid_of("5.4", {}, VENDORS, load_topology("solutions/wireguard"))
    assert found.state == "works" and found.why.startswith("not tried without a vpn-gateway: ")
    assert grid_of("5.4", {"5.4-client-exchanged": BAD}, VENDORS).state == "fails"
    assert grid_of("5.4", {"5.4-libreswan": BAD}).state == "fails"
    assert grid_of("5.4", {}, ["5.4-client-exchanged"]).why == "not tried: 5.4-client-exchanged"


def test_an_exit_from_the_intranet_is_tried_where_inside_is_in_clear() -> None:
    untold, wireguard = "5.1-untold-exit", load_topology("solutions/wireguard")
    needs = wireguard.topology.claims[untold].needs
    assert needs and (needs.lacking(NOTHING.nodes), needs.lacking(wireguard.nodes)) == ([], ["mobile-node"])
    gone = {"5.1-gateway-kept": BAD}
    for came in (gone, {**gone, "5.1-nothing-in-clear": BAD}):
        without = grid_of("5.1", came, [untold], wireguard)
        assert without == grid_of("5.1", {**came, untold: UNKNOWN}, topology=wireguard)  # as it was
        assert without.state == "fails" and without.claims[0] == "mine.5.1-gateway-kept"
    assert grid_of("5.1", {}, [untold], wireguard).why == f"not tried without a mobile-node: {untold}"


def test_a_guideline_of_which_nothing_could_be_tried_does_not_apply() -> None:
    topology = load_topology("solutions/wireguard")
    claims = {name: topology.topology.claims[name] for name in VENDORS}
    only = topology.topology.model_copy(update={"claims": claims})
    empty = Scenario(topology, {}, "wireguard.")
    other = Scenario(NOTHING, {"5.8-nothing-added": NOTHING.topology.claims["5.8-nothing-added"]}, "x.")
    decided = [
        one.record().model_copy(update={"scenario": "wireguard"}) for one in claim_results([empty, other], {})
    ]
    verdicts = verdicts_of("", {}, []).model_copy(update={"claims": decided})
    (row,) = rows(verdicts, {"wireguard": only}, ["5.4"])
    assert row.cells[0].state == "not-applicable" and row.cells[0].sign == "–" and not row.broken


@pytest.mark.parametrize("reason", ["", "no such protocol"])
def test_what_needs_esp_in_the_kernel_is_left_out_without_it(reason, monkeypatch) -> None:
    monkeypatch.setattr(verify, "try_in_container", lambda *_: {"esp": reason})
    work = verify.Verification(engine=None, image="image", pool=None, evidence=None)
    chosen = choose_solutions(["nothing"], ["5.4"])
    scenarios, labs = work._possible(chosen, share_labs(plan_stages(chosen, share=True), 2))
    runs = {one.claim for lab in labs for stage in lab.stages for run in stage.runs for one in run.all}
    assert runs == {scenario.id(name) for scenario in scenarios for name in scenario.claims}
    assert ({f"nothing.{name}" for name in VENDORS} <= runs) == (not reason)
    only = [Scenario(NOTHING, {name: NOTHING.topology.claims[name] for name in VENDORS}, "x.")]
    labs = share_labs(plan_stages(only), 2)
    if not reason:
        assert work._possible(only, labs) == (only, labs)
        return
    with pytest.raises(MachineError, match=r"x\.5\.4-libreswan.* needs ESP in the kernel") as caught:
        work._possible(only, labs)
    assert "esp4" in str(caught.value.hint)
