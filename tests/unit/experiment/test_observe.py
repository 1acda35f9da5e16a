"""Every kind of expectation, decided from what a played lab shows."""

import json
import threading
import time

import pytest
from experiment_world import PlayedCaptures, PlayedLab

from testbed.claim.expect import WORDS, Expectation
from testbed.claim.seen import LOGGED
from testbed.data import data_dir
from testbed.errors import StepError
from testbed.experiment.claims.observer import Observer
from testbed.experiment.traffic import ProbeReport
from testbed.lab.inside import Done
from testbed.packet.pcap import packet_mark
from testbed.topology.load import load_topology


@pytest.fixture
def lab():
    return PlayedLab()


@pytest.fixture
def captures():
    return PlayedCaptures()


@pytest.fixture
def observer(lab, captures):
    return Observer(lab, captures, lab.log.mark())


def judge(observer, **words):
    written = {key.replace("_", "-"): value for key, value in words.items()}
    expectation = Expectation.model_validate(written)
    return observer.observe("expect/0", expectation, since=0.001)


def held(observer, **words):
    return judge(observer, **words).held


def test_packets_by_filter_and_content(observer, captures):
    captures.packets["mn/hotel", "esp"] = [b"secret", b"open text"]
    assert held(observer, packets={"at": "mn/hotel", "filter": "esp", "exactly": 2})
    assert held(observer, packets={"at": "mn/hotel", "filter": "esp", "contains": "open", "exactly": 1})
    finding = judge(observer, packets={"at": ["mn/hotel", "mn/airport"], "filter": "esp", "at-least": 3})
    assert finding.held is False and "mn/hotel 2, mn/airport 0" in finding.observed
    assert finding.counted == {"mn/hotel": [packet_mark(b"secret"), packet_mark(b"open text")]}


def test_a_bad_filter_decides_nothing(observer):
    finding = judge(observer, packets={"at": "mn/hotel", "filter": "len > 9", "none": True})
    assert finding.held is None and "syntax error" in finding.observed


def test_payload_in_clear(observer, captures):
    finding = judge(observer, clear={"at": "mn/hotel", "none": True})
    assert finding.held is None and "no probe and no session was started" in finding.observed
    observer.traffic.marked = True
    captures.packets["mn/hotspot", "ip"] = [b"..readable by anybody on this link..", b"else"]
    assert held(observer, clear={"at": "mn/hotspot", "exactly": 1})
    assert held(observer, clear={"at": "mn/hotel", "none": True})


AFTER = {"at": "mn/campus", "filter": "udp src port 434", "by": "5s"}


def exit_from_campus(observer, captures, *clear):
    """Registered at 0 and 2.5 s; then packets on another link, those at `clear` readable."""
    observer.traffic.marked = True
    captures.packets["mn/campus", "udp src port 434"] = [b"reply", b"reply"]
    captures.times["mn/campus"] = [0.0, 2.5]
    captures.times["mn/hotel"] = [1.0, 7.5, 7.6]
    captures.packets["mn/hotel", "ip"] = [
        b"..readable by anybody on this link.." if time in clear else b"esp"
        for time in captures.times["mn/hotel"]
    ]


def test_only_what_comes_later_counts(observer, captures):
    exit_from_campus(observer, captures, 1.0, 7.5)  # so long after it, and not later
    finding = judge(observer, clear={"at": "mn/hotel", "none": True, "after": AFTER})
    assert finding.held
    assert list(observer.observations["expect/0"].captured) == ["mn/hotel", "mn/campus"]
    assert held(observer, packets={"at": "mn/hotel", "filter": "ip", "exactly": 1, "after": AFTER})
    assert held(observer, clear={"at": "mn/hotel", "exactly": 2})
    exit_from_campus(observer, captures, 7.6)
    assert held(observer, clear={"at": "mn/hotel", "none": True, "after": AFTER}) is False
    assert held(observer, clear={"at": "mn/hotel", "at-least": 1, "after": AFTER})


def test_nothing_later_decides_nothing(observer, captures):
    exit_from_campus(observer, captures)
    captures.packets["mn/hotel", "ip"].pop()
    finding = judge(observer, clear={"at": "mn/hotel", "none": True, "after": AFTER})
    assert finding.held is None and "later than that" in finding.observed


def test_without_the_packet_it_counts_from_nothing_is_decided(observer, captures):
    exit_from_campus(observer, captures)
    captures.dropped = 1
    finding = judge(observer, clear={"at": "mn/hotel", "none": True, "after": AFTER})
    assert finding.held is None and "mn/campus may lack" in finding.observed
    captures.dropped, captures.packets["mn/campus", "udp src port 434"] = 0, []
    finding = judge(observer, clear={"at": "mn/hotel", "none": True, "after": AFTER})
    assert finding.held is None and "no packet at mn/campus matches 'udp src port 434'" in finding.observed


def test_bindings(observer, lab):
    assert held(observer, binding={"agent": "ha", "present": False})
    assert held(observer, binding={"agent": "ha"}) is False
    ours = {"home_address": "10.0.1.100", "care_of_addresses": ["10.0.250.1"]}
    others = {"home_address": "10.0.1.99", "care_of_addresses": ["10.0.3.7"]}
    lab.states["ha", "home-agent"] = {"bindings": [others, ours]}
    assert held(observer, binding={"agent": "ha"})
    assert held(observer, binding={"agent": "ha", "care-of": "10.0.250.0/24"})
    assert held(observer, binding={"agent": "ha", "care-of": "10.0.3.0/24"}) is False
    assert held(observer, binding={"agent": "ha", "present": False}) is False


@pytest.mark.parametrize("state", [StepError("home-agent of ha does not answer"), {"counters": {}}])
def test_a_silent_home_agent_is_no_absent_binding(observer, lab, state):
    lab.states["ha", "home-agent"] = state
    assert held(observer, binding={"agent": "ha", "present": False}) is None


def test_daemons_that_one_container_holds(observer, lab):
    lab.outputs["sv status"] = Done(
        1,
        b"run: /etc/testbed/services/charon: (pid 36) 915s\n"
        b"down: /etc/testbed/services/home-agent: 3s, normally up\n"
        b"run: /etc/testbed/services/bird: (pid 41) 9s; run: log: (pid 42) 9s\n",
        b"",
    )
    finding = judge(observer, daemons={"node": "gw", "running": ["charon", "bird"]})
    assert finding.held
    assert "container gw-012345678 runs charon (pid 36), bird (pid 41)" in finding.observed
    finding = judge(observer, daemons={"node": "gw", "running": ["charon", "home-agent", "mobile-node"]})
    assert finding.held is False and finding.observed.endswith("not home-agent nor mobile-node")


@pytest.mark.parametrize(
    ("done", "why"),
    [
        (Done(127, b"", b"sv: not found"), "sv: not found"),
        (Done(137, b"run: /etc/testbed/services/charon: (pid 36) 915s\n", b""), "exit code 137"),
        (
            Done(1, b"fail: /etc/testbed/services/*: unable to change to service directory\n", b""),
            "exit code 1",
        ),
    ],
)
def test_a_supervisor_that_cannot_be_asked_does_not_say_no(observer, lab, done, why):
    lab.outputs["sv status"] = done
    finding = judge(observer, daemons={"node": "gw", "running": "charon"})
    assert finding.held is None and finding.observed == f"gw does not report what it runs: {why}"


def test_a_service_that_the_supervisor_knows_nothing_of(observer, lab):
    report = b"""\
run: /etc/testbed/services/charon: (pid 36) 915s
warning: /etc/testbed/services/bird: unable to open supervise/ok: access denied
down: /etc/testbed/services/home-agent: 3s, normally up
"""
    lab.outputs["sv status"] = Done(2, report, b"")
    assert held(observer, daemons={"node": "gw", "running": "charon"})
    finding = judge(observer, daemons={"node": "gw", "running": ["charon", "bird"]})
    assert finding.held is None and finding.observed.endswith("and does not report on bird")
    assert held(observer, daemons={"node": "gw", "running": ["bird", "home-agent"]}) is False


def established(*peers, more=()):
    sas = [{"state": "ESTABLISHED", "remote-id": peer} for peer in peers]
    return Done(0, json.dumps([*sas, *more]).encode(), b"")


HALF_OPEN = {"state": "CONNECTING", "remote-id": "mn-2"}


def test_a_peer_that_negotiates_again_is_one(observer, lab):
    """For 10 s after a client negotiates again from the same address charon keeps what it had before."""
    lab.outputs["testbed.node.ike_sas"] = established("mn", "mn", "mn-1", more=[HALF_OPEN])
    assert held(observer, perimeter={"from": "core", "associations": {"exactly": 2}})


def test_the_perimeter_is_what_answers_and_its_associations(observer, lab):
    lab.outputs = {
        "testbed.node.knock": knocked("NO_PROPOSAL_CHOSEN"),
        "testbed.node.ike_sas": established("mn", "trusted-fa", more=[HALF_OPEN]),
    }
    both = {"from": "core", "gateways": {"exactly": 1}, "associations": {"exactly": 2}}
    finding = judge(observer, perimeter=both)
    assert finding.held
    assert finding.observed == (
        "1 of 1 gateways answer, 2 peers with an IKE SA: "
        "gw (203.0.113.2), answers NO_PROPOSAL_CHOSEN, peers with an IKE SA: 2"
    )
    assert ("core", ["python3", "-m", "testbed.node.knock", "203.0.113.2"]) in lab.ran
    assert held(observer, perimeter=both | {"gateways": {"exactly": 2}}) is False
    assert held(observer, perimeter=both | {"associations": {"at-least": 3}}) is False
    lab.ran.clear()
    assert held(observer, perimeter={"from": "core", "associations": {"exactly": 2}})
    assert [node for node, _ in lab.ran] == ["gw"]  # nobody knocks where nobody asked for it


SPI = "0f1e2d3c4b5a6978"


def knocked(answer):
    return Done(0, json.dumps({"203.0.113.2": {"spi": SPI, "answer": answer}}).encode(), b"")


def test_a_gateway_is_closed_where_the_request_was_seen_to_arrive_and_no_answer(observer, lab, captures):
    lab.outputs["testbed.node.knock"] = knocked(None)
    nobody = {"from": "core", "gateways": {"none": True}}
    finding = judge(observer, perimeter=nobody)
    assert finding.held is None and "but the request was not seen at gw/internet" in finding.observed
    assert held(observer, perimeter=nobody | {"gateways": {"exactly": 1}}) is None
    assert held(observer, perimeter=nobody | {"gateways": {"exactly": 2}}) is False  # there is but one
    assert held(observer, perimeter=nobody | {"gateways": {"at-most": 1}})
    captures.packets["gw/internet", "udp dst port 500"] = [bytes(28) + b"another." + bytes(8)]
    assert held(observer, perimeter=nobody) is None
    captures.packets["gw/internet", "udp dst port 500"] = [bytes(28) + bytes.fromhex(SPI) + bytes(8)]
    finding = judge(observer, perimeter=nobody)
    assert finding.held and finding.observed.endswith("gw (203.0.113.2), does not answer")
    assert list(observer.observations["expect/0"].captured) == ["gw/internet"]
    captures.packets["gw/internet", "udp src port 500"] = [bytes(28) + bytes.fromhex(SPI) + bytes(8)]
    finding = judge(observer, perimeter=nobody)
    assert finding.held is None and finding.observed.endswith("does not answer, but an answer was sent")


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"alive": False}, "the capture at gw/internet had ended"),
        ({"dropped": 3}, "gw/internet lost packets"),
    ],
)
def test_a_gateway_is_not_closed_where_the_capture_may_lack_its_answer(observer, lab, captures, state, why):
    lab.outputs["testbed.node.knock"] = knocked(None)
    captures.packets["gw/internet", "udp dst port 500"] = [bytes(28) + bytes.fromhex(SPI) + bytes(8)]
    nobody = {"from": "core", "gateways": {"none": True}}
    assert held(observer, perimeter=nobody)
    vars(captures).update(state)
    finding = judge(observer, perimeter=nobody)
    assert finding.held is None and why in finding.observed
    captures.packets["gw/internet", "udp src port 500"] = [bytes(28) + bytes.fromhex(SPI) + bytes(8)]
    assert "but an answer was sent" in judge(observer, perimeter=nobody).observed


def test_the_border_is_where_the_outside_arrives():
    assert load_topology("scenario-2.1").border() == ("gw/internet",)
    assert load_topology("scenario-2.5", sets=["option.further-links=1"]).border() == (
        "firewall/internet",
        "gw/public",
        "gw-1/public",
    )


def test_a_gateway_of_ones_own_is_asked_as_its_manifest_says(observer, lab, tmp_path):
    text = (data_dir("templates") / "roles" / "vpn-gateway.yaml").read_text()
    text = text.replace("name: vpn-gateway", "name: x-gateway\nacts-as: [vpn-gateway]")
    (tmp_path / "roles").mkdir()
    manifest = tmp_path / "roles" / "x-gateway.yaml"
    manifest.write_text(text.replace("python3 -m testbed.node.ike_sas", "ikectl --json show sa"))
    file = tmp_path / "mine.yaml"
    roles = "{gw: {roles: [router, ospf, x-gateway]}}"
    file.write_text(f"name: mine\ntitle: Mine\ninclude: [scenario-2.1.yaml]\nnodes: {roles}\n")
    lab.topology = load_topology(str(file), templates=tmp_path)
    lab.outputs["ikectl --json show sa"] = established("mn")
    assert held(observer, perimeter={"from": "core", "associations": {"exactly": 1}})
    manifest.write_text(text.replace("    ike-sas: python3 -m testbed.node.ike_sas\n", ""))
    lab.topology = load_topology(str(file), templates=tmp_path)
    finding = judge(observer, perimeter={"from": "core", "associations": {"exactly": 0}})
    assert finding.held is None and "no role of gw says how its IKE SAs are read" in finding.observed


def test_a_gateway_that_cannot_be_asked(observer, lab):
    lab.outputs = {
        "testbed.node.knock": Done(1, b"", b"no module named testbed"),
        "testbed.node.ike_sas": Done(1, b"", b"charon does not answer: No such file"),
    }
    finding = judge(observer, perimeter={"from": "core", "gateways": {"exactly": 0}})
    assert finding.held is None and "core cannot ask for IKE" in finding.observed
    finding = judge(observer, perimeter={"from": "core", "associations": {"exactly": 0}})
    assert finding.held is None and "gw does not report its IKE SAs: charon" in finding.observed


def test_a_changed_topology_is_refused_or_accepted(observer):
    vendor = "image.vpn-gateway=acme/gw"
    finding = judge(observer, refused={"set": [vendor], "because": "ospf runs in the same node"})
    assert finding.held
    assert finding.observed == (
        "refused: nodes.gw: a node has one image, acme/gw is for vpn-gateway alone, "
        "and ospf runs in the same node"
    )
    misspelled = {"set": "image.vpn-gatway=acme/gw", "because": "vpn-gateway"}
    assert held(observer, refused=misspelled) is False  # only its hint names the role
    assert held(observer, refused={"set": [vendor], "because": "no such role"}) is False
    assert held(observer, accepted={"set": vendor}) is False
    assert held(observer, accepted={"set": [vendor, "image.ospf=acme/gw"]}) is False  # the other routers'
    assert held(observer, accepted={"set": [vendor, "node.gw.image=acme/gw"]})  # as the hint says
    assert held(observer, accepted={"set": "image.home-agent=acme/ha"})
    assert held(observer, refused={"set": "image.home-agent=acme/ha", "because": "same node"}) is False


def test_visitors(observer, lab):
    assert held(observer, visitor={"agent": "fa-hotspot", "present": False})
    lab.states["fa-hotspot", "foreign-agent"] = {"visitors": [{"home_address": "10.0.1.100"}]}
    assert held(observer, visitor={"agent": "fa-hotspot"})


def test_counters_count_from_the_beginning_of_the_run(observer, lab):
    counters = lab.states["fa-hotspot", "foreign-agent"]["counters"]
    counters["requests-received"] = 7
    counter = {"node": "fa-hotspot", "name": "requests-received", "exactly": 2}
    observer.begin("expect/0", Expectation.model_validate({"counter": counter}))
    lab.states["fa-hotspot", "foreign-agent"] = {"counters": {"requests-received": 9}}
    assert held(observer, counter={"node": "fa-hotspot", "name": "requests-received", "exactly": 2})
    finding = judge(observer, counter={"node": "fa-hotspot", "name": "requests-recieved", "exactly": 0})
    assert finding.held is None
    assert finding.observed == "fa-hotspot has counted no requests-recieved; it reports requests-received"
    lab.say("fa-hotspot", "foreign-agent", "ready")
    finding = judge(observer, counter={"node": "fa-hotspot", "name": "requests-received", "exactly": 2})
    assert finding.held is None and "counts from zero again" in finding.observed
    with pytest.raises(StepError, match="no Mobile IP daemon"):
        observer.begin("expect/0", Expectation.model_validate({"counter": counter | {"node": "core"}}))


@pytest.fixture
def two_daemons(tmp_path):
    """A lab whose ha is a home agent and a foreign agent; both count."""
    file = tmp_path / "two.yaml"
    file.write_text(
        "name: two\ntitle: Two daemons\ninclude: [scenario-2.1.yaml]\nnodes:\n  ha:\n"
        "    roles: [home-agent, router, foreign-agent]\n"
        "    links: {hotspot: 198.51.100.5}\n"
        "    settings: {home-network: home, visited: hotspot, care-of: home}\n"
    )
    lab = PlayedLab(str(file))
    lab.states["ha", "home-agent"] = {"counters": {"requests-received": 1, "replies-sent": 4}}
    lab.states["ha", "foreign-agent"] = {"counters": {"requests-received": 5, "requests-relayed": 6}}
    return lab


@pytest.mark.parametrize(
    ("counter", "result", "observed"),
    [
        ({"name": "requests-relayed"}, True, "grew by 6"),
        (
            {"name": "requests-received"},
            None,
            "home-agent and foreign-agent of ha all count",
        ),
        ({"name": "requests-received", "daemon": "foreign-agent"}, True, "grew by 5"),
        ({"name": "requests-relayed", "daemon": "home-agent"}, None, "counted no requests-relayed"),
        (
            {"name": "x", "daemon": "charon"},
            None,
            "no daemon charon that counts; it has home-agent, f",
        ),
    ],
)
def test_the_daemon_that_has_a_counter_is_asked_for_it(two_daemons, counter, result, observed):
    observer = Observer(two_daemons, PlayedCaptures(), two_daemons.log.mark())
    begun = {one: {"counters": {}} for one in two_daemons.states}
    ended, two_daemons.states = two_daemons.states, begun
    expectation = Expectation.model_validate({"counter": {"node": "ha", **counter, "at-least": 1}})
    if counter.get("daemon") != "charon":
        observer.begin("expect/0", expectation)
    two_daemons.states = ended
    finding = observer.observe("expect/0", expectation)
    assert finding.held is result and observed in finding.observed


@pytest.mark.parametrize(
    ("said", "state", "attachment", "result"),
    [
        ({"state": "registered", "registered": True, "mode": "co-located"}, "registered", "co-located", True),
        ({"state": "registered", "registered": True, "mode": "co-located"}, "registered", None, True),
        (
            {"state": "registered", "registered": True, "mode": "co-located"},
            "registered",
            "foreign-agent",
            False,
        ),
        ({"state": "at-home", "registered": False, "mode": "home"}, "home", None, True),
        ({"state": "at-home", "registered": False, "mode": "home"}, "not-registered", None, False),
        (
            {"state": "registering", "registered": False, "mode": "foreign-agent"},
            "not-registered",
            None,
            True,
        ),
        ({"state": "using-agent", "registered": False, "mode": "foreign-agent"}, "registered", None, False),
    ],
)
def test_the_mobile_node(observer, lab, said, state, attachment, result):
    lab.states["mn", "mobile-node"] = said
    wanted = {"state": state} | ({"attachment": attachment} if attachment else {})
    assert held(observer, mobile_node=wanted) is result


def test_events_of_this_run_only(lab, captures):
    lab.say("mn", "mobile-node", "registered", code=0)
    observer = Observer(lab, captures, lab.log.mark())
    assert held(observer, event={"node": "mn", "name": "registered", "none": True})
    lab.say("mn", "mobile-node", "registered", code=0)
    lab.say("mn", "roam", "registered")
    lab.say("ha", "home-agent", "registered")
    assert held(observer, event={"node": "mn", "name": "registered", "exactly": 2})
    assert held(observer, event={"node": "mn", "source": "roam", "name": "registered", "exactly": 1})
    assert held(observer, event={"node": "mn", "name": "registered", "having": {"code": 0}, "exactly": 1})


def test_heard(observer, lab):
    assert held(observer, heard={"agent": "fa-hotspot", "present": False})
    lab.say("mn", "mobile-node", "agent-advertisement", agent="10.0.2.1")
    assert held(observer, heard="fa-hotspot") is False and held(observer, heard="fa-office")
    lab.say("mn", "mobile-node", "agent-advertisement", agent="198.51.100.1")
    assert held(observer, heard="fa-hotspot")


def test_a_log_that_ended_proves_no_silence(observer, lab):
    lab.say("mn", "mobile-node", "registered")
    lab.log.ended.add("mn")
    finding = judge(observer, event={"node": "mn", "name": "registered", "exactly": 1})
    assert finding.held is None and finding.observed.endswith("the log of mn ended before the run did")
    assert held(observer, event={"node": "mn", "name": "registered", "at-least": 1})
    assert held(observer, event={"node": "mn", "name": "registered", "none": True}) is False
    assert held(observer, event={"node": "ha", "name": "registered", "none": True})
    assert held(observer, heard={"agent": "fa-hotspot", "present": False}) is None
    lab.say("mn", "mobile-node", "agent-advertisement", agent="198.51.100.1")
    assert held(observer, heard="fa-hotspot")


class PlayedProbe:
    def __init__(self, report):
        self.stop = lambda: report


def test_the_probe(observer):
    assert held(observer, probe={}) is None
    every = {number: number * 5_000_000 for number in range(100)}
    back = {number: stamp + 1 for number, stamp in every.items() if not 10 <= number < 20}
    observer.traffic.probe = PlayedProbe(ProbeReport(0.005, every, set(), back, back))
    assert held(observer, probe={"lost": {"exactly": 10}, "outage": "60ms", "silent": "50ms"})
    assert held(observer, probe={"outage": "50ms"}) is False
    assert held(observer, probe={"silent": "60ms"}) is False
    assert held(observer, probe={"lost": {"none": True}}) is False
    observer.traffic.probe = PlayedProbe(ProbeReport(0.005))
    assert held(observer, probe={}) is None


class PlayedSession:
    def __init__(self, *answers):
        self.answers = list(answers)
        self.bounds = []

    def check(self, within):
        self.bounds.append(within)
        return self.answers.pop(0)


def test_the_session(observer):
    assert held(observer, session="alive") is None
    observer.traffic.session = PlayedSession(
        {"alive": True, "after": 0.1}, {"alive": False}, {"alive": False}
    )
    assert held(observer, session="alive")
    assert held(observer, session="alive") is False
    finding = judge(observer, session="broken", within="3s")
    assert finding.held and "3 s" in finding.observed
    assert observer.traffic.session.bounds == [8.0, 8.0, 3.0]


def answers(received, sent=3):
    text = f"{sent} packets transmitted, {received} received, 0% packet loss"
    return Done(0 if received else 1, text.encode(), b"")


@pytest.mark.parametrize(
    ("done", "reachable", "unreachable"),
    [
        (answers(3), True, False),
        (answers(1), True, False),
        (answers(0), False, True),
        (Done(2, b"", b"ping: connect: Network is unreachable"), False, True),
        (Done(2, b"", b"ping: bind: Cannot assign requested address"), None, None),
        (Done(127, b"", b"ping: not found"), None, None),
    ],
)
def test_reachability(observer, lab, done, reachable, unreachable):
    lab.outputs["ping"] = done
    assert held(observer, reachable={"from": "mn", "to": "cn"}) is reachable
    assert held(observer, unreachable={"from": "mn", "to": "cn", "source": "home"}) is unreachable
    assert "10.0.1.100" in lab.ran[-1][1] and "10.0.4.10" in lab.ran[-1][1]


def test_a_source_without_address_decides_nothing(observer, lab):
    assert held(observer, unreachable={"from": "mn", "to": "cn", "source": "hotel"}) is None
    lab.outputs["address"] = Done(0, b"2: hotel inet 198.51.100.70/26 brd + scope global hotel", b"")
    lab.outputs["ping"] = answers(0)
    assert held(observer, unreachable={"from": "mn", "to": "cn", "source": "hotel"})
    assert "198.51.100.70" in lab.ran[-1][1]


def test_hops(observer, lab):
    lab.outputs["traceroute"] = Done(0, b" 1  10.0.1.1  0.1 ms\n 2  10.0.4.10  0.2 ms\n", b"")
    assert held(observer, hops={"from": "mn", "to": "cn", "through": "r1", "not-through": ["gw"]})
    finding = judge(observer, hops={"from": "mn", "to": "cn", "through": "gw"})
    assert finding.held is False and finding.observed == "r1 → cn: 2 hops"
    lab.outputs["traceroute"] = Done(0, b" 1  10.0.1.1  0.1 ms\n 2  *\n 3  10.0.4.10  0.2 ms\n", b"")
    assert held(observer, hops={"from": "mn", "to": "cn", "through": "r1"})
    assert held(observer, hops={"from": "mn", "to": "cn", "not-through": "r1"}) is False
    assert held(observer, hops={"from": "mn", "to": "cn", "through": "gw"}) is None
    assert held(observer, hops={"from": "mn", "to": "cn", "not-through": "gw"}) is None
    lab.outputs["traceroute"] = Done(0, b" 1  10.0.4.1  0.1 ms\n 2  10.0.1.100  0.2 ms\n", b"")
    assert held(observer, hops={"from": "cn", "to": "mn", "not-through": "gw"})  # its home address
    lab.outputs["traceroute"] = Done(0, b" 1  10.0.1.1  0.1 ms !N\n", b"")  # where it ends, but not at cn
    assert held(observer, hops={"from": "mn", "to": "cn", "not-through": "gw"}) is None
    lab.outputs["traceroute"] = Done(0, b" 1  *\n 2  *\n", b"")
    assert held(observer, hops={"from": "mn", "to": "cn", "not-through": "gw"}) is None


def test_within_waits_for_an_event_and_not_longer(observer, lab):
    def register():
        lab.states["mn", "mobile-node"] = {"state": "registered", "registered": True, "mode": "co-located"}
        lab.say("mn", "mobile-node", "registered")

    threading.Timer(0.1, register).start()
    assert held(observer, mobile_node="registered", within="5s")
    assert held(observer, mobile_node="home", within="50ms") is False


@pytest.mark.parametrize(
    "words",
    [
        {"event": {"node": "mn", "name": "registered", "none": True}},
        {"event": {"node": "mn", "name": "registered", "at-most": 0}},
        {"heard": {"agent": "fa-hotspot", "present": False}},
        {"binding": {"present": False}},
        {"visitor": {"agent": "fa-hotspot", "present": False}},
    ],
)
def test_absence_holds_only_once_it_had_time_to_show(observer, lab, words):
    def late():
        row = {"home_address": "10.0.1.100", "care_of_addresses": ["10.0.3.7"]}
        lab.states["ha", "home-agent"] = {"bindings": [row]}
        lab.states["fa-hotspot", "foreign-agent"] = {"visitors": [row]}
        lab.say("mn", "mobile-node", "registered")
        lab.say("mn", "mobile-node", "agent-advertisement", agent="198.51.100.1")

    expectation = Expectation.model_validate(words)
    began = time.monotonic()
    assert observer.observe("expect/0", expectation).held
    assert time.monotonic() - began >= LOGGED / 1000
    # What runs wait for together at their end they wait for once.
    assert observer.observe("expect/0", expectation, since=began).held
    assert time.monotonic() - began < 2 * LOGGED / 1000
    threading.Timer(0.2, late).start()
    assert observer.observe("expect/0", expectation).held is False


def test_every_expectation_has_words():
    written = [
        {"packets": {"at": "mn/hotel", "filter": "esp", "contains": "x", "none": True}},
        {"clear": {"at": "mn/hotel", "at-least": 1}},
        {"ike": {"at": "mn/hotel", "exchange": "IKE_AUTH", "exactly": 1}},
        {"esp-sas": {"at": "mn/hotel", "exactly": 2}},
        {"binding": {"agent": "ha", "care-of": "10.0.0.0/8"}},
        {"visitor": {"agent": "fa", "present": False}},
        {"counter": {"node": "fa", "name": "n", "at-least": 1}},
        {"mobile-node": {"state": "registered", "attachment": "co-located"}},
        {"heard": "fa"},
        {"event": {"node": "mn", "name": "n", "source": "roam", "having": {"code": 0}, "none": True}},
        {"daemons": {"node": "gw", "running": ["charon", "home-agent"]}},
        {"refused": {"set": "image.home-agent=acme/ha", "because": "vpn-gateway"}},
        {"accepted": {"set": ["image.home-agent=acme/ha"]}},
        {"probe": {"lost": {"at-most": 3}, "outage": "1s", "silent": "1ms"}},
        {"session": "alive", "within": "3s"},
        {"reachable": {"from": "mn", "to": "cn", "source": "home"}},
        {"unreachable": {"from": "mn", "to": "cn"}},
        {"hops": {"from": "mn", "to": "cn", "through": "gw", "not-through": "ha"}},
        {"perimeter": {"from": "core", "gateways": {"exactly": 4}, "associations": {"at-least": 1}}},
        {"received": {"node": "cn", "none": True}},
        {"ike-beyond": {"at": "mn/hotel", "node": "gw", "documents": ["RFC 7296"], "none": True}},
        {"mip-beyond": {"at": "mn/hotel", "documents": ["RFC 5944"], "none": True}},
        {"changed": {"node": "gw", "what": "services", "than": "plain-mip", "none": True}},
        {"added": {"than": "plain-mip", "none": True}},
        {"combined": {"of": ["vpn-gateway", "home-agent"], "none": True}},
        {"growth": {"at": "mn/hotel", "filter": "udp", "at-most": 1.1}},
    ]
    expectations = [Expectation.model_validate(one) for one in written]
    assert len({one.phrase() for one in expectations}) == len(written)
    assert {one.word for one in expectations} == {one.word for one in WORDS}
