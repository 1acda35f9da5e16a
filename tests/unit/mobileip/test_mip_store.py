"""What agents keep beyond the end of their process."""

import json
from ipaddress import IPv4Address

import pytest
from mip_world import (
    CARE_OF,
    EPOCH,
    HOME_ADDRESS,
    HOME_AGENT,
    World,
    association,
    clock,
    events,
    home_agent_config,
    sent,
)

from testbed.mobileip.core.api import Datagram, Remember, ReportEvent, SendDatagram
from testbed.mobileip.core.association import sign
from testbed.mobileip.core.foreign.effects import ClearVisitor, SetVisitor
from testbed.mobileip.core.home.effects import ClearBinding, ProxyArp
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.io import store as store_module
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.store import Store
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.identification import from_unix
from testbed.mobileip.wire.registration_request import RegistrationRequest

A, B = IPv4Address("10.0.1.100"), IPv4Address("10.0.1.101")


def test_what_was_written_is_there_for_the_next_process(tmp_path):
    path = tmp_path / "lib" / "agent.state"
    store = Store(path)
    assert store.records == {}
    store.write([Remember(A, {"n": 1}), Remember(B, {"n": 2})])
    store.write([Remember(A, {"n": 3})])
    store.write([Remember(B, None)])
    # As after `kill -9`: nothing was closed.
    assert Store(path).records == {A: {"n": 3}}
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_file_is_written_anew_when_most_of_it_is_out_of_date(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "SLACK", 10)
    path = tmp_path / "agent.state"
    store = Store(path)
    for number in range(1000):
        store.write([Remember(A, {"n": number}), Remember(B, {"n": number})])
        assert len(path.read_bytes().splitlines()) <= 14
    assert Store(path).records == {A: {"n": 999}, B: {"n": 999}}
    assert [file.name for file in tmp_path.iterdir()] == ["agent.state"]


def test_a_line_that_was_not_written_to_its_end_does_not_count(tmp_path):
    path = tmp_path / "agent.state"
    Store(path).write([Remember(A, {"n": 1}), Remember(A, {"n": 2})])
    path.write_bytes(path.read_bytes()[:-3])
    store = Store(path)
    assert store.records == {A: {"n": 1}}
    store.write([Remember(B, {"n": 3})])
    assert Store(path).records == {A: {"n": 1}, B: {"n": 3}}


def test_after_a_failed_write_everything_is_written_with_the_next(tmp_path, monkeypatch):
    path = tmp_path / "agent.state"
    store = Store(path)
    store.write([Remember(A, {"n": 1})])

    def full(descriptor, data):
        store_module.os.write(descriptor, bytes(data)[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store_module, "_write", full)
        with pytest.raises(NodeError, match="No space left on device"):
            store.write([Remember(B, {"n": 2})])
    store.write([Remember(A, {"n": 3})])
    assert Store(path).records == {A: {"n": 3}, B: {"n": 2}}


def requests(number):
    """Registration requests of the mobile node, one after the other and each from another place."""
    security = association(HOME_ADDRESS)
    for each in range(number):
        care_of, stamp = CARE_OF + each, from_unix(EPOCH + each) % 2**64
        message = RegistrationRequest(0, 300 if each < 9 else 0, HOME_ADDRESS, HOME_AGENT, care_of, stamp)
        yield float(each), Datagram(sign(message.encode(), 32, security), care_of, 434, HOME_AGENT, 434)


def full(descriptor, data):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("known", [False, True])
def test_what_a_home_agent_cannot_keep_it_does_not_grant(tmp_path, monkeypatch, known):
    store = Store(tmp_path / "agent.state")
    agent = HomeAgent(home_agent_config(advertising=None), clock)
    asked = requests(4)
    if known:
        agent.receive(*next(asked)[::-1])
        store.keep(agent.effects(), agent.refused)
    before, kept = agent.state(0.0)["bindings"], (tmp_path / "agent.state").read_text()
    with monkeypatch.context() as patched:
        patched.setattr(store_module, "_write", full)
        for _ in range(2):  # in one go, as the shell reads them
            agent.receive(*next(asked)[::-1])
        effects, failure = store.keep(agent.effects(), agent.refused)
    assert "No space left" in str(failure)
    assert [each.payload[1] for each in sent(effects)] == [Code.HA_INSUFFICIENT_RESOURCES] * 2
    assert {type(each) for each in effects} == {
        Remember,
        ReportEvent,
        SendDatagram,
    }  # no tunnel, no proxy ARP
    assert {
        (each["code"], "No space left on device" in each["reason"]) for each in events(effects, "denied")
    } == {(130, True)}
    assert agent.state(0.0)["bindings"] == before
    assert (tmp_path / "agent.state").read_text() == kept
    # There is room again: the next is granted, and a replay of what was denied is none.
    when, last = next(asked)
    agent.receive(last, when)
    effects, failure = store.keep(agent.effects(), agent.refused)
    assert failure is None and [each.payload[1] for each in sent(effects)] == [Code.ACCEPTED]
    assert any(isinstance(each, ProxyArp) for each in effects) is not known
    again = HomeAgent(home_agent_config(advertising=None), clock)
    again.restore(Store(tmp_path / "agent.state").records, when)
    assert again.state(when)["bindings"] == agent.state(when)["bindings"]


def test_a_deregistration_that_cannot_be_kept_ends_no_binding(tmp_path, monkeypatch):
    store = Store(tmp_path / "agent.state")
    agent = HomeAgent(home_agent_config(advertising=None), clock)
    asked = list(requests(10))
    for when, datagram in (asked[0], asked[9]):
        agent.receive(datagram, when)
        monkeypatch.setattr(store_module, "_write", full if datagram is asked[9][1] else store_module._write)
        effects, _ = store.keep(agent.effects(), agent.refused)
    assert [each.payload[1] for each in sent(effects)] == [Code.HA_INSUFFICIENT_RESOURCES]
    assert agent.state(9.0)["bindings"] and not any(isinstance(each, ClearBinding) for each in effects)


@pytest.mark.parametrize("known", [False, True])
def test_what_a_foreign_agent_cannot_keep_it_does_not_pass_on(tmp_path, monkeypatch, known):
    store = Store(tmp_path / "agent.state")
    world = World()
    agent = world.fas[0]
    world.discover("visited")
    if known:
        world.run(1.0)
        assert agent.state(world.now)["visitors"]
        world.mn.renew(world.now)
    fetch = agent.effects
    kept = []

    def effects():
        effects, _ = store.keep(fetch(), agent.refused)
        kept.extend(effects)
        return effects

    monkeypatch.setattr(agent, "effects", effects)
    monkeypatch.setattr(store_module, "_write", full)
    world.run(1.0)
    assert [each["code"] for each in events(kept, "denied")][:1] == [Code.FA_INSUFFICIENT_RESOURCES]
    assert "No space left" in events(kept, "denied")[0]["reason"]
    assert bool(agent.state(world.now)["visitors"]) == known
    assert not any(isinstance(each, (SetVisitor, ClearVisitor)) for each in kept)


@pytest.mark.parametrize("content", ["nonsense\n", "[1, 2, 3]\n", '["10.0.1", {}]\n', "7\n"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "agent.state"
    path.write_text(content)
    with pytest.raises(NodeError, match="remove the file"):
        Store(path)
    assert path.read_text() == content


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NodeError, match=r"state .*file/agent\.state: "):
        Store(tmp_path / "file" / "agent.state")


def test_a_line_is_json(tmp_path):
    Store(tmp_path / "s").write([Remember(A, {"bindings": []})])
    assert json.loads((tmp_path / "s").read_text()) == ["10.0.1.100", {"bindings": []}]
