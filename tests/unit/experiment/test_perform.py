"""Steps, and whole runs, in a played lab."""

import json
import threading

import pytest
from experiment_world import PlayedCaptures, PlayedLab, PlayedPulse

from testbed.claim.claims import Experiment
from testbed.claim.expect import Expectation
from testbed.claim.probe import ProbeReport
from testbed.claim.steps import Step
from testbed.claim.steps.flush import flush
from testbed.data import data_dir
from testbed.errors import StepError
from testbed.evidence.health import Health
from testbed.experiment.claims import perform
from testbed.experiment.claims.observer import Observer
from testbed.experiment.claims.perform import Performer
from testbed.experiment.claims.plan import PlannedRun
from testbed.experiment.claims.reset import reset
from testbed.experiment.claims.run import carry_out, run_taps
from testbed.experiment.evidence import Evidence
from testbed.experiment.traffic import Probe
from testbed.lab.access import Stopped
from testbed.lab.inside import Done
from testbed.topology.load import load_topology


@pytest.fixture
def lab():
    return PlayedLab()


@pytest.fixture
def performer(lab):
    return Performer(lab, Observer(lab, PlayedCaptures(), 0))


def do(performer, **words):
    written = {key.replace("_", "-"): value for key, value in words.items()}
    step = Step.model_validate(written)
    return performer.perform(step, f"steps/0/{step.word}")


def requests(lab):
    return [request for _, service, request in lab.asked if service == "roam"]


def scripts(lab):
    return [command[-1] for _, command in lab.ran]


def test_moves_go_round_the_list(lab, performer):
    text = do(performer, move={"to": ["hotel", "airport"], "times": 2})
    networks = ["hotel", "airport", "hotel", "airport"]
    assert [one["network"] for one in requests(lab)] == networks
    assert text.splitlines()[0] == "hotel: registered (co-located); ms: link 1, data 9"


def test_several_mobile_nodes_move_at_once_and_all_but_the_first_move_back(lab, performer, monkeypatch):
    lab.states["mn-1", "roam"] = {"network": "home"}
    lab.topology = load_topology("solutions/nothing", sets=["others=1"])
    together = threading.Barrier(2, timeout=5)  # none of them waits for another
    control = lab.control
    moves = []

    def controlled(node, service, request, **more):
        if request["op"] == "move" and len(moves) < 2:
            moves.append((node, request["network"]))
            together.wait()
        return control(node, service, request, **more)

    monkeypatch.setattr(lab, "control", controlled)
    text = do(performer, move={"nodes": ["mn", "mn-1"], "to": "hotel"})
    assert sorted(moves) == [("mn", "hotel"), ("mn-1", "hotel")]
    assert text.splitlines()[0].startswith("mn: hotel: registered") and "\nmn-1: hotel: " in text
    assert performer.undo() == []
    assert [(node, one["network"]) for node, _, one in lab.asked[2:]] == [("mn-1", "home")]


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ({}, {"within": 0.0}),
        ({"part": "25%", "within": "5s"}, {"share": 0.25, "within": 5.0}),
        ({"part": "10.64.0.11"}, {"homes": ["10.64.0.11", "10.64.0.11"], "within": 0.0}),
    ],
)
def test_a_crowd_moves_and_stays(written, asked):
    lab = PlayedLab("bulk")
    performer = Performer(lab, Observer(lab, PlayedCaptures(), 0))
    do(performer, move={"node": "crowd", "to": "airport", **written})
    assert lab.asked == [("crowd", "bulk-nodes", {"op": "move", "network": "airport", **asked})]
    assert performer.undo() == []
    assert len(lab.asked) == 1


def test_a_move_that_settles_without_everything_is_fine_unless_it_is_a_condition(lab, performer):
    lab.settles = {"state": "unregistered", "detail": "ike-timeout", "timeline": {"link": 1.0, "ike": None}}
    assert "ike-timeout" in do(performer, move="hotspot")
    assert do(performer, move={"to": "hotspot", "reaches": "link"})
    with pytest.raises(StepError, match="did not come as far as registered: ike-timeout"):
        do(performer, move={"to": "hotspot", "reaches": "registered"})


def test_a_condition_that_does_not_show(lab, performer):
    with pytest.raises(StepError, match="waited in vain: a binding at ha, within 20ms: no"):
        do(performer, wait_until={"binding": {"agent": "ha"}, "within": "20ms"})
    lab.states["ha", "home-agent"] = {
        "bindings": [{"home_address": "10.0.1.100", "care_of_addresses": ["10.0.3.7"]}]
    }
    assert do(performer, wait_until={"binding": {"agent": "ha"}}) == "binding to 10.0.3.7"


def test_what_was_changed_is_put_right_in_reverse(lab, performer):
    lab.states["mn", "roam"] = {
        "network": "hotel",
        "address": "198.51.100.70/26",
        "ipsec": {"enabled": False},
    }
    lab.outputs["cat /etc/testbed/node.json"] = Done(0, b'{"ready": []}', b"")
    do(performer, service={"node": "r2", "name": "dnsmasq", "state": "down"})
    do(performer, bypass="off")
    do(performer, carry="hotspot")
    do(performer, ipsec="down")
    lab.log.wait = lambda *_: lab.log.since(0)[-1]  # what is waited for has come
    done = len(lab.ran)
    assert performer.undo() == []
    undone = [script for script in scripts(lab)[done:] if "cat" not in script]
    assert requests(lab)[-1] == {"op": "ipsec", "action": "up"}
    assert "198.51.100.70/32 dev hotspot" in undone[0]
    assert "delete table" in undone[1] and "up /etc/testbed/services/dnsmasq" in undone[2]
    assert performer.undo() == [] and len(undone) == 3


def test_what_cannot_be_put_right_is_said(lab, performer):
    do(performer, bypass="off")
    lab.outputs["delete table netdev"] = Done(1, b"", b"nft: no")
    assert performer.undo() == ["bypass on: mn: nft: no"]


def test_the_bypass_is_emulated_and_says_so(lab, performer):
    text = do(performer, bypass="off")
    assert "emulated" in text and performer.notes == [text]
    script = scripts(lab)[-1]
    assert "devices = { hotel, airport, hotspot }" in script  # outside only
    assert "policy drop" in script and "esp accept" in script


def test_carrying_needs_something_to_carry(lab, performer):
    with pytest.raises(StepError, match="no address of its own"):
        do(performer, carry="hotspot")
    lab.states["mn", "roam"] = {"network": "hotel", "address": "198.51.100.70/26"}
    assert do(performer, carry="hotspot") == "198.51.100.70 is now on hotspot, with 198.51.100.1 for a router"
    with pytest.raises(StepError, match="nobody on home forwards"):
        lab.topology.topology.nodes["r1"].links.pop("home")
        lab.topology.topology.nodes["ha"].links.pop("home")
        do(performer, carry="home")


def test_a_move_leaves_behind_what_was_carried(lab, performer):
    lab.states["mn", "roam"] = {"network": "hotel", "address": "198.51.100.70/26"}
    do(performer, carry="hotspot")
    do(performer, move="hotspot")
    assert "198.51.100.70/32 dev hotspot" in scripts(lab)[-1] and "set hotspot down" in scripts(lab)[-1]
    done = len(lab.ran)
    assert performer.undo() == [] and len(lab.ran) == done  # or the link would be down where it has moved to


def test_what_was_carried_is_plugged_in_again_where_it_was(lab, performer):
    lab.states["mn", "roam"] = {"network": "hotel", "address": "198.51.100.70/26"}
    do(performer, carry="hotspot")
    assert performer.undo() == []
    lines = scripts(lab)[-1].splitlines()
    assert lines == [
        "ip address del 198.51.100.70/32 dev hotspot || :; ip link set hotspot down",
        "ip link set hotel up",
        "ip route replace 198.51.100.64/26 dev hotel scope link table 100",
        "ip route replace default via 198.51.100.65 dev hotel onlink table 100",
    ]


@pytest.mark.parametrize("network", ["hotspot", "airport"])
def test_a_connection_manager_that_found_out_that_it_was_carried_keeps_its_link(lab, performer, network):
    lab.states["mn", "roam"] = {"network": "hotel", "address": "198.51.100.70/26"}
    do(performer, carry="hotspot")
    lab.states["mn", "roam"] = {"network": network, "address": "198.51.100.199/26"}
    done = len(lab.ran)
    assert performer.undo() == []
    assert not any("hotel up" in script for script in scripts(lab)[done:])
    assert any("hotspot down" in script for script in scripts(lab)[done:]) == (network == "airport")
    assert all("address del 198.51.100.70/32 dev hotspot" in script for script in scripts(lab)[done:])


def test_a_second_mobile_node_goes_back_once(two):
    performer = Performer(two, Observer(two, PlayedCaptures(), 0))
    for network in ("airport", "hotspot", "airport"):
        do(performer, move={"node": "mn-1", "to": network})
        two.states["mn-1", "roam"]["network"] = network
    asked = len(two.asked)
    assert performer.undo() == []
    assert two.asked[asked:] == [("mn-1", "roam", {"op": "move", "network": "hotel"})]


def test_ipsec_that_does_not_settle_is_allowed_again(lab, performer, monkeypatch):
    """Else the runs after it in the lab would have none."""
    monkeypatch.setattr(perform, "MOVE_WITHIN", 0.01)
    monkeypatch.setattr(perform, "RESTART_WITHIN", 0.01)
    lab.states["mn", "roam"] = {"ipsec": {"enabled": False}}
    lab.settles = None
    with pytest.raises(StepError, match="ipsec was accepted but did not begin"):
        do(performer, ipsec="down")
    performer.undo()
    assert requests(lab)[-1] == {"op": "ipsec", "action": "up"}


def test_registering_past_ipsec_and_through_it(lab, performer):
    lab.states["mn", "roam"] = {"ipsec": {"inner": "10.0.250.1"}}
    assert do(performer, register={"through": "ipsec", "within": "20ms"}) == "0 requests sent, no answer"
    with pytest.raises(StepError, match=r"lets no registration past \(mn\.passes=registrations"):
        do(performer, register={"through": "hotspot", "within": "20ms"})
    lab.topology = load_topology("scenario-2.1", sets=["node.mn.passes=registrations"])
    assert do(performer, register={"through": "hotspot", "within": "20ms"})
    asked = [request for _, service, request in lab.asked if service == "mobile-node"]
    assert asked == [
        {"op": "detach"},
        {"op": "attach", "interface": "ipsec0", "care_of": "10.0.250.1"},
        {"op": "detach"},
        {"op": "discover", "interface": "hotspot", "register": True},
    ]
    lab.states["mn", "roam"] = {"ipsec": {"inner": None}}
    with pytest.raises(StepError, match="no IPsec session"):
        do(performer, register="ipsec")


def test_commands(lab, performer):
    lab.outputs["echo"] = Done(0, b"hello\n", b"")
    assert do(performer, run={"node": "cn", "command": "echo hello"}) == "hello"
    lab.outputs = {"false": Done(3, b"", b"it says no\n")}
    with pytest.raises(StepError, match="it says no"):
        do(performer, run={"node": "cn", "command": "false"})


def test_made_up_packets_are_noted(lab, performer):
    send = {"from": "gw", "to": "fa-hotspot/internet", "protocol": "esp"}
    assert do(performer, send=send) == "3 esp packets from 203.0.113.2 to 203.0.113.10"
    assert performer.notes == ["made up by gw: 3 esp packets from 203.0.113.2 to 203.0.113.10"]


def test_flush_asks_only_those_who_remember_something(lab, performer):
    assert flush(performer, ["ha", "fa-hotspot"]) == "nothing to forget" and not lab.asked
    lab.states["ha", "home-agent"]["bindings"] = [{"home_address": "10.0.1.100"}]
    lab.states["fa-hotspot", "foreign-agent"]["pending"] = [{"home_address": "10.0.1.100"}]
    reset(performer)
    assert [(node, request["op"]) for node, _, request in lab.asked] == [
        ("mn", "forget"),
        ("ha", "flush"),
        ("fa-hotspot", "flush"),
    ]


def test_which_lists_are_emptied_is_for_the_manifest_to_say(lab, performer, tmp_path):
    manifest = data_dir("templates") / "roles" / "home-agent.yaml"
    text = manifest.read_text().replace("name: home-agent", "name: x-home-agent\nacts-as: [home-agent]")
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles" / "x-home-agent.yaml").write_text(text.replace("[bindings]", "[registrations]"))
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\ntitle: Mine\ninclude: [scenario-2.1.yaml]\nnodes: {ha: {roles: [x-home-agent]}}\n"
    )
    lab.topology = load_topology(str(file), templates=tmp_path)
    lab.states["ha", "home-agent"]["bindings"] = [{"home_address": "10.0.1.100"}]
    assert flush(performer, ["ha"]) == "nothing to forget"
    lab.states["ha", "home-agent"]["registrations"] = [{"home_address": "10.0.1.100"}]
    assert flush(performer, ["ha"]) == "flushed: ha"


# Whole runs


@pytest.fixture
def evidence(tmp_path):
    return Evidence(tmp_path)


def experiment(steps, expect):
    return Experiment.model_validate({"steps": steps, "expect": expect})


def carry(lab, evidence, steps, expect, health=None):
    planned = PlannedRun("x", "run", experiment(steps, expect))
    (result,) = carry_out(lab, lab.name, PlayedPulse(health), planned, evidence)
    return result


ABSENT = {"binding": {"agent": "ha", "present": False}}
SILENT = {"packets": {"at": "gw/backbone", "none": True}}


def test_a_run_that_holds(lab, captures, evidence):
    result = carry(lab, evidence, [{"move": "hotel"}, {"expect": ABSENT}], [SILENT, ABSENT])
    assert result.verdict == "held", result.reason
    assert captures.taps == ("gw/backbone", "mn/hotel") and captures.calls[0] == "start"
    assert [one.expectation for one in result.findings] == [
        "no binding at ha",
        "packets at gw/backbone matching 'ip': none",
        "no binding at ha",
    ]
    folder = evidence.root / "claims/x/main"
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    assert [one["step"] for one in steps] == ["move", "expect"] and steps[1]["result"].startswith("yes")
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert {"node", "event", "source", "wall", "monotonic"} <= events[0].keys()
    assert "fetch" in captures.calls


def test_a_step_in_vain_decides_nothing_and_is_put_right(lab, captures, evidence):
    lab.outputs["delete table netdev testbed-bypass 2"] = Done(0, b"", b"")
    waits = {"wait-until": {"binding": {"agent": "ha"}, "within": "10ms"}}
    result = carry(lab, evidence, [{"bypass": "off"}, waits, {"move": "hotel"}], [ABSENT])
    assert result.verdict == "undecided" and "waited in vain" in result.reason
    assert [request["op"] for request in requests(lab)] == ["forget"]  # what came after it was not done
    steps = (evidence.root / "claims/x/main/steps.jsonl").read_text().splitlines()
    assert len(steps) == 2 and json.loads(steps[1])["result"].startswith("could not be done: waited in vain")
    assert "delete table" in scripts(lab)[-1]


def test_a_lab_that_cannot_be_put_right_decides_nothing(lab, captures, evidence):
    lab.outputs["2>/dev/null || :"] = Done(1, b"", b"no")
    result = carry(lab, evidence, [{"bypass": "off"}], [ABSENT])
    assert result.verdict == "undecided" and "put right" in result.reason


def test_lost_captures_decide_nothing(lab, captures, evidence):
    def lost(folder):
        raise StepError("cannot fetch")

    captures.fetch = lost
    assert carry(lab, evidence, [{"move": "hotel"}], [ABSENT]).reason == "cannot fetch"


def test_a_lab_in_disorder_decides_nothing(lab, captures, evidence):
    lab.states["ha", "home-agent"] = StepError("home-agent of ha does not answer")
    result = carry(lab, evidence, [{"move": "hotel"}], [SILENT])
    assert result.verdict == "undecided" and not captures.calls.count("start")


BOUND = {"binding": {"agent": "ha"}}


def test_what_only_a_slow_machine_may_have_spoiled_decides_nothing(lab, captures, evidence):
    steps = [{"move": "hotel"}]
    calm = carry(lab, evidence, steps, [BOUND])
    assert calm.verdict == "failed" and calm.health == Health(late_ms=1.5)
    busy = carry(lab, evidence, steps, [BOUND], Health(late_ms=380.0))
    assert busy.verdict == "undecided"
    assert busy.reason.endswith("no binding (the machine was busy: timers up to 380 ms late)")
    # As before, but what must not be was there.
    captures.files = {"gw/backbone": [bytes.fromhex("4500001c000000004001") + bytes(18)]}
    assert carry(lab, evidence, steps, [BOUND, SILENT], Health(late_ms=380.0)).verdict == "failed"


def test_an_expectation_on_the_way_is_excused_too(lab, captures, evidence):
    result = carry(lab, evidence, [{"move": "hotel"}, {"expect": BOUND}], [SILENT], Health(late_ms=380.0))
    assert [one.excuse is not None for one in result.findings] == [True]


def test_a_probe_whose_timer_was_late_says_so_of_the_machine(lab, captures, evidence, monkeypatch):
    played = ProbeReport(0.005, sent={0: 0, 1: int(5e6), 2: int(225e6)}, returned={0: 1, 1: int(6e6)})
    monkeypatch.setattr(Probe, "start", lambda self: None)
    monkeypatch.setattr(Probe, "stop", lambda self: setattr(self, "_report", played) or played)
    result = carry(
        lab, evidence, [{"probe": {"action": "start", "to": "cn"}}], [{"probe": {"lost": {"none": True}}}]
    )
    assert result.health.late_ms == 215.0 and result.verdict == "undecided"


def test_a_machine_nothing_is_known_of_decides_nothing(lab, captures, evidence):
    result = carry(lab, evidence, [{"move": "hotel"}], [ABSENT], StepError("mn has no pulse"))
    assert result.verdict == "undecided" and result.reason == "mn has no pulse"


def test_what_the_log_brings_late_of_the_run_before_is_not_seen_in_this_one(lab, captures, evidence):
    control = lab.control

    def late(node, service, request, **more):
        if request["op"] == "forget":
            lab.say("mn", "mobile-node", "registered")
        return control(node, service, request, **more)

    lab.control = late
    nothing = {"event": {"node": "mn", "name": "registered", "none": True}}
    assert carry(lab, evidence, [{"move": "hotel"}], [nothing]).verdict == "held"


def test_being_stopped_is_no_result(lab, captures, evidence):
    lab.settles = None

    def stop(*_):
        lab.log.stop()
        return {"ok": True}

    lab.control = stop
    with pytest.raises(Stopped):
        carry(lab, evidence, [{"move": "hotel"}], [ABSENT])


def test_the_mobile_node_is_captured_wherever_it_goes(lab):
    steps = [{"move": ["hotel", "airport"]}, {"carry": "hotspot"}]
    assert list(run_taps(lab, experiment(steps, [SILENT]))) == [
        "gw/backbone",
        "mn/hotel",
        "mn/airport",
        "mn/hotspot",
    ]


def test_a_perimeter_is_captured_at_the_border(lab):
    gateways = {"perimeter": {"from": "core", "gateways": {"exactly": 0}}}
    assert list(run_taps(lab, experiment([{"move": "hotel"}], [gateways]))) == ["gw/internet", "mn/hotel"]


def test_every_step_of_the_built_in_claims_has_words():
    for claim in load_topology("scenario-2.1").topology.claims.values():
        for _, run in (*claim.experiments("run"), *claim.experiments("control")):
            for one in run.steps:
                assert len(one.phrase()) > 4 and "None" not in one.phrase()


@pytest.fixture
def two():
    """A lab with a second mobile node."""
    lab = PlayedLab("scenario-2.5", sets=["option.further-links=1"])
    lab.states["mn-1", "roam"] = {
        "network": "hotel",
        "address": "198.51.100.71/26",
        "ipsec": {"enabled": True, "inner": "10.0.251.1"},
    }
    return lab


def test_steps_name_their_mobile_node(two):
    performer = Performer(two, Observer(two, PlayedCaptures(), 0))
    do(performer, move={"node": "mn-1", "to": ["airport"]})
    do(performer, carry={"node": "mn-1", "to": "hotspot"})
    do(performer, ipsec={"node": "mn-1", "state": "down"})
    do(performer, bypass={"node": "mn-1", "state": "off"})
    do(performer, register={"node": "mn-1", "through": "ipsec", "within": "1ms"})
    assert {node for node, *_ in two.asked + two.ran} == {"mn-1"}
    two.states["mn-1", "roam"]["ipsec"] = {"enabled": False}
    assert performer.undo() == []
    assert {node for node, *_ in two.asked + two.ran} == {"mn-1"}
    # Nobody else says where the next run finds it.
    assert requests(two)[-1] == {"op": "move", "network": "hotel"}
    do(performer, move="airport")
    assert two.asked[-1] == ("mn", "roam", {"op": "move", "network": "airport"})


def test_the_state_of_a_mobile_node_by_name(two):
    observer = Observer(two, PlayedCaptures(), 0)
    two.states["mn-1", "mobile-node"] = {"state": "at-home", "registered": False, "mode": None}
    expected = Expectation.model_validate({"mobile-node": {"node": "mn-1", "state": "home"}})
    assert observer.observe("expect/0", expected).held and expected.phrase() == "mn-1 is home"


def test_a_named_mobile_node_is_captured_where_it_goes(two):
    steps = [{"move": {"node": "mn-1", "to": "airport"}}, {"move": "hotel"}]
    written = {"steps": steps, "expect": [{"mobile-node": "registered"}]}
    experiment = Experiment.model_validate(written)
    assert [*run_taps(two, experiment)] == ["mn-1/airport", "mn/hotel"]
    assert experiment.steps[0].phrase() == "move of mn-1 to airport"
