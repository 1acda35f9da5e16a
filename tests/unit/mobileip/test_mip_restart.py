"""Agents that end at any moment and begin again with what they asked to remember."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mip_world import (
    CARE_OF,
    EPOCH,
    FA_ADDRESS,
    FA_CARE_OF,
    HOME_ADDRESS,
    HOME_AGENT,
    MN_MAC,
    A,
    World,
    association,
    clock,
    events,
    foreign_agent_config,
    home_agent_config,
    mobile_node_config,
    sent,
)

from testbed.mobileip.core.api import (
    Datagram,
    GratuitousArp,
    Remember,
    ReportEvent,
    SendAgentMessage,
    TunnelEnd,
)
from testbed.mobileip.core.association import sign
from testbed.mobileip.core.foreign.effects import SetVisitor
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home.effects import ProxyArp, SetBinding
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.core.parameters import INFINITE_LIFETIME
from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.identification import from_unix
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag

NODES = (HOME_ADDRESS, A("10.0.1.101"))
PLACES = (CARE_OF, FA_CARE_OF, A("198.51.100.140"))


class Memory:
    """What the shell does for one core: `records` goes through JSON as it goes through the file."""

    def __init__(self, make) -> None:
        self.make = make
        self.core = make()
        self.records: dict = {}

    def effects(self):
        """The effects, of which those to remember are carried out."""
        effects = self.core.effects()
        for effect in effects:
            if isinstance(effect, Remember):
                self.records.pop(effect.node, None)
                if effect.record is not None:
                    self.records[effect.node] = json.loads(json.dumps(effect.record))
        return effects

    def restart(self, now):
        self.core = self.make()
        self.core.restore(self.records, now)
        return self.effects()


def home_agent(**changes):
    nodes = tuple(association(node) for node in NODES)
    config = home_agent_config(advertising=None, mobile_nodes=nodes, **changes)
    return Memory(lambda: HomeAgent(config, clock))


def request(now, node=HOME_ADDRESS, care_of=CARE_OF, lifetime=300, flags=0, skew=0.0):
    identification = from_unix(EPOCH + now + skew) % 2**64
    message = RegistrationRequest(int(flags), lifetime, node, HOME_AGENT, care_of, identification)
    return Datagram(sign(message.encode(), 32, association(node)), care_of, 434, HOME_AGENT, 434)


def code(effects):
    (reply,) = sent(effects)
    return RegistrationReply.decode(reply.payload).code


def test_a_home_agent_that_was_killed_accepts_no_replay_and_has_its_bindings():
    memory = home_agent()
    asked = request(0.0, skew=3.0)  # this mobile node's clock is ahead
    memory.core.receive(asked, 0.0)
    assert code(memory.effects()) == 0
    effects = memory.restart(2.0)
    assert [effect for effect in effects if isinstance(effect, (SetBinding, ProxyArp, GratuitousArp))] == [
        SetBinding(HOME_ADDRESS, (TunnelEnd(CARE_OF),), False),
        ProxyArp(HOME_ADDRESS, True),
        GratuitousArp(HOME_ADDRESS, "home"),
    ]
    assert events(effects, "binding-restored") == [
        {"home_address": str(HOME_ADDRESS), "care_of": str(CARE_OF)}
    ]
    memory.core.receive(asked, 2.0)
    assert code(memory.effects()) == Code.HA_IDENTIFICATION_MISMATCH
    memory.core.receive(request(2.1, skew=3.0), 2.1)
    assert code(memory.effects()) == 0


def test_what_a_home_agent_denies_for_other_reasons_is_no_more_accepted_after_a_restart():
    memory = home_agent()
    denied = request(0.0, flags=RequestFlag.GRE)
    memory.core = HomeAgent(home_agent_config(advertising=None, encapsulations=()), clock)
    memory.core.receive(denied, 0.0)
    assert code(memory.effects()) == Code.HA_ENCAPSULATION_UNAVAILABLE
    memory.restart(1.0)
    memory.core.receive(denied, 1.0)
    assert code(memory.effects()) == Code.HA_IDENTIFICATION_MISMATCH


def test_an_identification_is_remembered_before_its_reply_leaves():
    memory = home_agent()
    memory.core.receive(request(0.0), 0.0)
    kinds = [type(effect).__name__ for effect in memory.effects()]
    assert kinds.index("Remember") < kinds.index("SendDatagram")


def test_lifetimes_go_on_while_an_agent_is_away():
    memory = home_agent()
    memory.core.receive(request(0.0, lifetime=60), 0.0)
    memory.effects()
    memory.restart(20.0)
    assert memory.core.deadline() <= 60.0
    (node,) = memory.core.state(20.0)["bindings"]
    assert node["lifetime_left"] == 40.0
    assert not any(isinstance(effect, SetBinding) for effect in memory.restart(60.0))
    assert memory.core.state(60.0)["bindings"] == []


def test_a_clock_that_was_put_back_does_not_make_a_binding_older_nor_younger_than_new():
    memory = home_agent()
    memory.core.receive(request(0.0, lifetime=60), 0.0)
    memory.effects()
    memory.core = HomeAgent(home_agent_config(advertising=None), lambda now: clock(now) - 3600)
    memory.core.restore(memory.records, 10.0)
    (node,) = memory.core.state(10.0)["bindings"]
    assert node["lifetime_left"] == 60.0


def test_a_mobile_node_that_the_configuration_does_not_know_any_more_is_forgotten():
    memory = home_agent()
    memory.core.receive(request(0.0), 0.0)
    memory.effects()
    memory.make = lambda: HomeAgent(home_agent_config(advertising=None, mobile_nodes=()), clock)
    memory.restart(1.0)
    assert memory.core.state(1.0)["bindings"] == [] and memory.records == {}


@pytest.mark.parametrize("record", [7, {}, {"identification": 1, "bindings": [{"care_of": "x"}]}])
@pytest.mark.parametrize("make", [home_agent, lambda: foreign_agent()])
def test_records_that_no_agent_has_made(make, record):
    with pytest.raises((ValueError, KeyError, TypeError)):
        make().core.restore({HOME_ADDRESS: record}, 0.0)


LIFETIMES = st.sampled_from((0, 5, 30, 300, INFINITE_LIFETIME))
FLAGS = st.sampled_from((0, RequestFlag.SIMULTANEOUS, RequestFlag.REVERSE_TUNNEL, RequestFlag.GRE))
STEPS = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.1, 1.0, 4.0, 31.0)),  # seconds until
        st.one_of(
            st.tuples(
                st.sampled_from(NODES),
                st.sampled_from((*PLACES, HOME_ADDRESS)),
                LIFETIMES,
                FLAGS,
                st.sampled_from((0.0, 0.0, 5.0, -5.0, 9.0)),
            ),
            st.integers(0, 30),  # which of the earlier requests comes once more
        ),
        st.booleans(),  # whether the agent is killed and starts again
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_a_home_agent_restarted_at_any_moment_does_what_one_does_that_was_not(steps):
    restarted, other = home_agent(), home_agent()
    now, asked = 0.0, []
    for pause, step, restart in steps:
        now += pause
        for memory in (restarted, other):
            memory.core.tick(now)
            memory.effects()
        if restart:
            restarted.restart(now)
        if isinstance(step, tuple):
            node, care_of, lifetime, flags, skew = step
            asked.append(request(now, node, care_of, lifetime, flags, skew))
        elif not asked:
            continue
        datagram = asked[-1] if isinstance(step, tuple) else asked[step % len(asked)]
        outcomes = []
        for memory in (restarted, other):
            memory.core.receive(datagram, now)
            outcomes.append([effect for effect in memory.effects() if not isinstance(effect, Remember)])
        assert comparable(outcomes[0]) == comparable(outcomes[1])
        assert bindings(restarted, now) == bindings(other, now)
    for node in NODES:
        assert restarted.records.get(node, {}).get("identification") == other.records.get(node, {}).get(
            "identification"
        )


def comparable(effects):
    """All but repeated gratuitous ARPs: a restart begins them anew."""
    return [effect for effect in effects if not isinstance(effect, GratuitousArp)]


def bindings(memory, now):
    """The bindings of a home agent or visitors of a foreign agent; rounding of times may differ."""
    state = memory.core.state(now)
    text = json.dumps(state.get("bindings", state.get("visitors")))
    nodes = json.loads(text, parse_float=lambda number: round(float(number), 1))
    return sorted(nodes, key=lambda node: node["home_address"])


def foreign_agent(**changes):
    config = foreign_agent_config(**changes)
    return Memory(lambda: ForeignAgent(config, clock, Random(1)))


def visit(memory, now, node=HOME_ADDRESS, care_of=FA_CARE_OF, lifetime=300, flags=0):
    """Register through the agent; return the effects of the reply."""
    asked = replace(
        request(now, node, care_of, lifetime, flags),
        source=node, destination=FA_ADDRESS, interface="visited", ttl=255, link_address=MN_MAC,
    )  # fmt: skip
    memory.core.receive(asked, now)
    if not [datagram for datagram in sent(memory.effects()) if datagram.destination == HOME_AGENT]:
        return []
    identification = RegistrationRequest.decode(asked.payload).identification
    reply = RegistrationReply(0, lifetime, node, HOME_AGENT, identification)
    payload = sign(reply.encode(), 32, association(node))
    memory.core.receive(Datagram(payload, HOME_AGENT, 434, FA_CARE_OF, 434, "internet"), now)
    return memory.effects()


def test_a_foreign_agent_that_was_killed_has_its_visitors_and_says_that_it_rebooted():
    memory = foreign_agent()
    flags = RequestFlag.REVERSE_TUNNEL
    assert any(isinstance(effect, SetVisitor) for effect in visit(memory, 0.0, flags=flags))
    effects = memory.restart(100.0)
    expected = SetVisitor(HOME_ADDRESS, TunnelEnd(HOME_AGENT), FA_CARE_OF, "visited", MN_MAC, True)
    assert [effect for effect in effects if isinstance(effect, SetVisitor)] == [expected]
    (visitor,) = memory.core.state(100.0)["visitors"]
    assert visitor["lifetime_left"] == 200.0
    memory.core.tick(100.0)
    (advertisement,) = [effect for effect in memory.effects() if isinstance(effect, SendAgentMessage)]
    # §2.3.2 "After booting, an agent MUST use the number 0"
    assert AgentAdvertisement.decode(advertisement.message.payload).mobility.sequence == 0
    memory.core.tick(300.0)
    assert memory.core.state(300.0)["visitors"] == [] and (memory.effects(), memory.records)[1] == {}


def test_a_foreign_agent_with_another_care_of_address_forgets_its_visitors():
    memory = foreign_agent()
    visit(memory, 0.0)
    memory.make = lambda: ForeignAgent(foreign_agent_config(care_of=A("203.0.113.11")), clock)
    memory.restart(1.0)
    assert memory.core.state(1.0)["visitors"] == [] and memory.records == {}


VISITS = st.lists(
    st.tuples(
        st.sampled_from((0.1, 1.0, 31.0)),
        st.sampled_from(NODES),
        st.sampled_from((FA_CARE_OF, CARE_OF)),
        LIFETIMES,
        st.sampled_from((0, RequestFlag.REVERSE_TUNNEL)),
        st.booleans(),
    ),
    max_size=20,
)


@settings(max_examples=80, deadline=None)
@given(VISITS)
def test_a_foreign_agent_restarted_at_any_moment_does_what_one_does_that_was_not(visits):
    restarted, other = foreign_agent(), foreign_agent()
    now = 0.0
    for pause, node, care_of, lifetime, flags, restart in visits:
        now += pause
        for memory in (restarted, other):
            memory.core.tick(now)
            memory.effects()
        if restart:
            restarted.restart(now)
        if care_of == CARE_OF:
            flags |= RequestFlag.DECAPSULATION
        outcomes = [
            [effect for effect in visit(memory, now, node, care_of, lifetime, flags)
             if not isinstance(effect, (Remember, ReportEvent))]
            for memory in (restarted, other)
        ]  # fmt: skip
        assert outcomes[0] == outcomes[1]
        assert bindings(restarted, now) == bindings(other, now)


class Restarting(World):
    """A world in which every daemon may be killed and start again."""

    def __init__(self, seed: int, lifetime: int) -> None:
        super().__init__(MobileNode(mobile_node_config(lifetime=lifetime), clock, Random(seed)), seed=seed)
        self.records: dict = {"ha": {}, "fa": {}}

    def _carry_out(self, core, effect):
        if isinstance(effect, Remember):
            records = self.records["ha" if core is self.ha else "fa"]
            records.pop(effect.node, None)
            if effect.record is not None:
                records[effect.node] = effect.record
        else:
            super()._carry_out(core, effect)

    def kill(self, which: str) -> None:
        self._drain()
        if which == "ha":
            self.bindings.clear()
            self.proxied.clear()
            self.ha = HomeAgent(self.ha.config, clock, Random(3))
            self.ha.restore(self.records["ha"], self.now)
        elif which == "fa":
            self.visitors.clear()
            self.fas = [ForeignAgent(self.fas[0].config, clock, Random(4))]
            self.fas[0].restore(self.records["fa"], self.now)
        else:  # the connection manager then does again what it did
            self.mn = MobileNode(self.mn.config, clock, Random(5))
            self.attach(self.where, self.care_of) if self.care_of else self.discover(self.where)
        self._drain()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 1000),
    st.booleans(),
    st.lists(st.tuples(st.floats(0.05, 90.0), st.sampled_from(("ha", "fa", "mn"))), max_size=12),
)
def test_wherever_daemons_are_killed_the_three_agree(seed, co_located, kills):
    world = Restarting(seed, lifetime=60)
    world.attach("hotel", CARE_OF) if co_located else world.discover("visited")
    world.run(2.0)
    for pause, which in kills:
        world.run(pause)
        assert world.reachable()
        world.kill(which)
        if which != "mn":
            assert world.reachable(), "an agent's restart alone brings everything back"
        world.run(2.0)
        assert world.reachable()
