"""The trace of what is discarded silently: RFC 5944 §1.7."""

from __future__ import annotations

from mip_world import (
    CARE_OF,
    FA_ADDRESS,
    HOME_ADDRESS,
    HOME_AGENT,
    MN_MAC,
    A,
    clock,
    events,
    foreign_agent_config,
)
from test_mip_home_agent import Bench as HomeAgentBench
from test_mip_mobile_node import FA_MAC
from test_mip_mobile_node import Bench as MobileNodeBench

from testbed.mobileip.core.api import AgentMessage, Datagram
from testbed.mobileip.core.discards import REPORTS_AT_ONCE
from testbed.mobileip.core.foreign_agent import ForeignAgent


def test_reason_sender_and_content_are_reported():
    bench = HomeAgentBench()
    bench.ha.receive(Datagram(b"\x09nonsense", CARE_OF, 5434, HOME_AGENT, 434, "internet"), 1.0)
    (trace,) = events(bench.ha.effects(), "discarded")
    assert trace == {
        "reason": "type",
        "sender": str(CARE_OF),
        "destination": str(HOME_AGENT),
        "interface": "internet",
        "ttl": 64,
        "content": b"\x09nonsense".hex(),
    }
    assert bench.counters["discarded-type"] == 1


def test_a_flood_fills_no_log_and_is_counted_all_the_same():
    agent = ForeignAgent(foreign_agent_config(), clock)
    for step in range(1000):
        agent.receive(Datagram(b"", HOME_ADDRESS, 434, FA_ADDRESS, 434, "visited"), step / 1000)
    reported = len(events(agent.effects(), "discarded"))
    assert REPORTS_AT_ONCE <= reported <= REPORTS_AT_ONCE + 5
    assert agent.counters["discarded-type"] == 1000
    assert agent.counters["discards-not-reported"] == 1000 - reported


def test_messages_of_agent_discovery_leave_a_trace_too():
    agent = ForeignAgent(foreign_agent_config(), clock)
    agent.receive_agent_message(
        AgentMessage(b"\x0a\0\0\0\0\0\0\0", HOME_ADDRESS, A("224.0.0.11"), "visited", 1, MN_MAC), 0.0
    )
    assert [each["reason"] for each in events(agent.effects(), "discarded")] == ["checksum"]
    bench = MobileNodeBench()
    bench.discover()
    bench.mn.receive_agent_message(
        AgentMessage(b"\x09\0\0\0", FA_ADDRESS, A("224.0.0.1"), "visited", 1, FA_MAC), 0.0
    )
    assert [each["reason"] for each in events(bench.take(), "discarded")] == ["truncated"]
