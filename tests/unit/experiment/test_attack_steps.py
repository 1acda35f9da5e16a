"""The steps by which an attacker hears, sends and stands on the path, in a played lab."""

from __future__ import annotations

import pytest
from experiment_world import PlayedCaptures, PlayedLab

from testbed.agreed import MADE_UP
from testbed.claim.expect import Expectation
from testbed.claim.sight import Sight
from testbed.claim.steps import Step
from testbed.claim.steps import replay as replay_step
from testbed.errors import ErrorGroup, StepError
from testbed.experiment.claims.observer import LabLooker, Observer
from testbed.experiment.claims.perform import Performer
from testbed.lab.inside import Done
from testbed.topology.load import load_topology

HOTEL = b"2: hotel    inet 198.51.100.90/26 scope global hotel\n"
REQUEST = "udp port 434"


@pytest.fixture
def lab():
    lab = PlayedLab("attacked")
    lab.outputs["address"] = Done(0, HOTEL, b"")
    return lab


@pytest.fixture
def captures():
    return PlayedCaptures()


@pytest.fixture
def performer(lab, captures, monkeypatch):
    monkeypatch.setattr(replay_step, "HEAR_WITHIN", 0.0)
    return Performer(lab, Observer(lab, captures, 0))


def do(performer, **words):
    step = Step.model_validate(words)
    return performer.perform(step, f"steps/0/{step.word}")


def last(lab):
    """The last command that was run, as the words after `python3 -m`."""
    node, command = lab.ran[-1]
    return node, " ".join(command)


def test_what_is_sent_comes_from_the_sender_or_claims_another(lab, performer):
    send = {"from": "attacker", "protocol": "ipip", "to": "mn/hotel", "inner": "mn"}
    assert do(performer, send=send) == "3 ipip packets from 198.51.100.126 to 198.51.100.90"
    text = do(performer, send={**send, "as": "ha"})
    assert text == "3 ipip packets from 203.0.113.40 (forged) to 198.51.100.90"
    assert performer.notes[-1] == f"made up by attacker: {text}"
    node, command = last(lab)
    assert node == "attacker"
    assert command.endswith("inject ipip 203.0.113.40 198.51.100.90 --inner 192.0.2.10 192.0.2.100 --count 3")
    do(performer, send={**send, "as": "mn/hotel", "to": "ha", "inner": "cn", "count": 1})
    assert last(lab)[1].endswith("198.51.100.90 203.0.113.40 --inner 192.0.2.100 192.0.2.10 --count 1")


def test_registration_messages_are_forged_with_or_without_the_key(lab, captures, performer):
    request = {"from": "attacker", "protocol": "request", "to": "ha", "count": 1}
    do(performer, send=request)
    common = "request 203.0.113.66 203.0.113.40 --home 192.0.2.100 --agent 203.0.113.40"
    assert last(lab)[1].endswith(f"{common} --count 1")
    lab.outputs["mobile-node.toml"] = Done(0, b'[security]\nkey = "0a0b"\n', b"")
    do(performer, send={**request, "key": "stolen", "care-of": "attacker/hotel"})
    assert last(lab)[1].endswith(f"{common} --key 0a0b --care-of 198.51.100.126 --count 1")
    assert not any("0a0b" in note for note in performer.notes)
    lab.outputs["mobile-node.toml"] = Done(0, b'[security]\nkey = "<redacted>"\n', b"")
    with pytest.raises(StepError, match=r"mn has no .*mobile-node.toml with the key"):
        do(performer, send={**request, "key": "stolen"})
    reply = {"from": "attacker", "protocol": "reply", "as": "ha", "to": "mn/hotel", "trusted": True}
    reply["answers"] = {"at": "mn/hotel", "filter": REQUEST}
    do(performer, send=reply)
    assert "--answers" not in last(lab)[1]
    captures.packets["mn/hotel", REQUEST] = (b"first", b"\x45last")
    do(performer, send=reply)
    assert last(lab)[1].endswith("--answers 456c617374 --trusted --count 3")


def test_advertisements_go_on_until_the_end_of_the_run(lab, performer):
    lab.outputs["inject"] = Done(0, b"77\n", b"")
    send = {"from": "attacker", "protocol": "advertisement", "through": "hotel", "as": "ha/home"}
    text = do(performer, send={**send, "home": True, "every": "5ms"})
    assert text == "advertisement from 192.0.2.1 (forged) to 224.0.0.1 every 5 ms"
    command = last(lab)[1]
    assert "--device hotel --as-home --owns 192.0.2.0/24 --every 5 >" in command and "running" in command
    assert performer.undo() == [] and "kill 77" in last(lab)[1]


def test_a_program_that_does_not_start_says_why(lab, performer):
    lab.outputs["inject"] = Done(1, b"", b"cannot send: no such device\n")
    with pytest.raises(StepError, match="attacker: cannot send: no such device"):
        do(performer, send={"from": "attacker", "protocol": "udp", "to": "cn", "every": "5ms"})
    with pytest.raises(StepError, match="cannot send"):
        do(performer, send={"from": "attacker", "protocol": "udp", "to": "cn"})
    assert performer.undo() == []


def test_what_was_heard_is_sent_once_more(lab, captures, performer):
    replay = {"from": "attacker", "at": "mn/hotel", "filter": REQUEST}
    with pytest.raises(StepError, match="no packet at mn/hotel matches 'udp port 434'"):
        do(performer, replay=replay)
    assert do(performer, replay={**replay, "if-any": True}) == "nothing to replay" and not lab.ran
    captures.packets["mn/hotel", REQUEST] = tuple(bytes([69, number]) for number in range(60))
    assert do(performer, replay=replay) == "50 packets captured at mn/hotel"
    assert last(lab)[1].startswith("python3 -m testbed.node.replay 450a 450b") and "453b" in last(lab)[1]
    text = do(
        performer, replay={**replay, "last": True, "as": "attacker", "to": "mn/hotel", "through": "hotel"}
    )
    assert text == "1 packets captured at mn/hotel, from 203.0.113.66"
    assert last(lab)[1].endswith("replay 453b --as 203.0.113.66 --to 198.51.100.90 --device hotel")


def test_the_path_is_entered_and_left(lab, performer):
    with pytest.raises(StepError, match="no node is on the path"):
        do(performer, rewrite="stop")
    lab.outputs["testbed.node.rewrite"] = Done(0, b"88\n", b"")
    do(performer, rewrite={"state": "start", "from": "attacker", "network": "hotel"})
    command = last(lab)[1]
    assert "--device hotel --own 198.51.100.126 --victim 198.51.100.90 --router 198.51.100.65" in command
    assert do(performer, rewrite="stop") == "off the path" and "kill 88" in last(lab)[1]
    done = len(lab.ran)
    assert performer.undo() == [] and len(lab.ran) == done


@pytest.mark.parametrize(("count", "wanted", "held"), [(2, {"exactly": 2}, True), (2, {"none": True}, False)])
def test_what_an_application_got_is_counted(lab, performer, count, wanted, held):
    lab.outputs["socat"] = Done(0, b"99\n", b"")
    assert do(performer, listen="cn") == "on port 9"
    part = Expectation.model_validate({"received": {"node": "cn", **wanted}}).part
    lab.outputs["/run/testbed/received"] = Done(0, MADE_UP.encode() * count, b"")
    seen = part.look(LabLooker(lab))
    decision = part.judge(Sight(lab.topology, wires=None, seen=seen))
    assert (decision.held, decision.observed) == (held, "2 received")
    assert performer.undo() == [] and "kill 99" in last(lab)[1]


def test_a_gateway_reports_its_associations_until_the_end(lab, performer):
    lab.outputs["testbed.node.ike_sas --follow"] = Done(0, b"77\n", b"")
    do(performer, **{"follow-sas": ["gw", "mn"]})
    assert [node for node, command in lab.ran[-2:]] == ["gw", "mn"] and "--follow" in last(lab)[1]
    assert performer.undo() == [] and "kill 77" in last(lab)[1]


def test_nobody_listens(lab):
    lab.outputs["/run/testbed/received"] = Done(1, b"", b"cat: no such file\n")
    part = Expectation.model_validate({"received": {"node": "cn", "none": True}}).part
    with pytest.raises(StepError, match="the run needs the step `listen: cn`"):
        part.look(LabLooker(lab))


def test_a_service_that_was_started_again_is_left_alone_at_the_end(lab, performer):
    lab.outputs["cat /etc/testbed/node.json"] = Done(0, b'{"ready": []}', b"")
    service = {"node": "ha", "name": "home-agent"}
    lab.log.wait = lambda *_: None
    do(performer, service={**service, "state": "down"})
    do(performer, service={**service, "state": "up"})
    done = len(lab.ran)
    assert performer.undo() == [] and len(lab.ran) == done


WRONG = [
    ("send: {from: attacker, protocol: esp}", "esp needs `to`"),
    ("send: {from: attacker, protocol: esp, to: ha, notify: 3}", "`notify` is of ike, not of esp"),
    ("send: {from: attacker, protocol: ipip, to: ha}", "ipip needs `inner`"),
    ("send: {from: attacker, protocol: advertisement}", "an advertisement needs `through`"),
    ("send: {from: attacker, protocol: udp, to: cn, through: airport}", "attacker is not on airport"),
    ("send: {from: attacker, protocol: udp, to: cn/airport}", "cn is not on airport"),
    ("send: {from: attacker, protocol: udp, to: cn, as: haa}", "unknown node haa"),
    ("replay: {from: attacker, at: mn/hotel, filter: ip, through: home}", "attacker is not on home"),
    ("rewrite: {state: start, network: hotel}", "`start` needs `from`"),
    ("rewrite: {state: start, from: attacker, network: airport}", "attacker has no address on airport"),
    ("listen: nobody", "unknown node nobody"),
]


def test_what_cannot_be_done_is_an_error_of_the_topology(tmp_path):
    steps = ", ".join(f"{{{step}}}" for step, _ in WRONG)
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ninclude: [attacked.yaml]\nclaims:\n  one:\n    says: x\n    source: x\n"
        f"    run: {{steps: [{steps}], expect: [session: alive]}}\n"
        "    control: {steps: [move: hotel], expect: [session: alive]}\n"
    )
    with pytest.raises(ErrorGroup) as error:
        load_topology(str(tmp_path / "mine.yaml"))
    found = [one.message.partition(": ")[2] for one in error.value.errors]
    assert found == [message for _, message in WRONG]
