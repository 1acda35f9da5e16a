"""Simulations take the very messages that labs took, of which recorded*.yaml have the numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import plain_yaml
import pytest
import simulated_crowd
from simulated import Count, Message, Step, count, simulated

from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest
from testbed.simulate import gateway
from testbed.simulate.solutions import HOTEL, HOTSPOT

RECORDED, CROWDS = (
    plain_yaml.load(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    for name in ("recorded.yaml", "recorded-crowds.yaml")
)
HOME, AGENT, HERE, THERE = (HOTEL.address(number) for number in range(4))


def steps(solution: str) -> list[Step]:
    return [
        Step((*each["nodes"],), (*each["to"],), Count(each["internet"]), Count(each["home-agent"]))
        for each in RECORDED[solution]
    ]


@pytest.mark.parametrize("solution", RECORDED)
def test_a_simulation_takes_the_messages_of_the_lab(solution) -> None:
    lab = steps(solution)
    assert simulated(solution, [step[:2] for step in lab]) == lab


def test_a_number_of_ike_messages_that_is_wrong_shows(monkeypatch) -> None:
    wrong = replace(gateway.ike_costs(), exchanges=1)
    monkeypatch.setattr(gateway, "ike_costs", lambda: wrong)
    lab = steps("nothing")
    assert simulated("nothing", [step[:2] for step in lab]) != lab


@pytest.mark.parametrize("nodes", CROWDS)
def test_a_simulation_takes_the_messages_of_a_lab_with_as_many_nodes(nodes) -> None:
    lab = [
        simulated_crowd.CrowdStep(each["to"], Count(*each["internet"]), Count(*each["home-agent"]))
        for each in CROWDS[nodes]
    ]
    assert simulated_crowd.simulated(nodes) == [step.once for step in lab]


def test_a_crowd_that_renews_more_often_shows(monkeypatch) -> None:
    wanted = simulated_crowd.simulated(16)
    monkeypatch.setattr(simulated_crowd, "LIFETIME", 15)
    assert simulated_crowd.simulated(16) != wanted


def request(number: int, care_of=HERE, home=HOME, lifetime=600) -> Message:
    """Sent so many times five minutes after the first."""
    wire = RegistrationRequest(0, lifetime, home, AGENT, care_of, number).encode()
    return Message(300.0 * number, False, wire)


def soon(number: int) -> Message:
    """Sent within the same five minutes as another."""
    return request(number)._replace(time=1.0)


def reply(number: int, home=HOME) -> Message:
    return Message(0.0, False, RegistrationReply(0, 600, home, AGENT, number).encode())


def ike(number: int) -> Message:
    return Message(0.0, True, bytes(20) + number.to_bytes(4))


OTHER = HOTSPOT.address(0)


@pytest.mark.parametrize(
    ("passed", "wanted"),
    [
        ([request(1), reply(1), request(2), reply(2)], Count(4)),  # a renewal
        ([request(1), request(2), reply(1), reply(2)], Count(2, 2)),  # the answer came late
        ([request(1), request(2), reply(2)], Count(2, 1)),  # a request was lost
        ([request(1), request(2), reply(2), request(3), reply(3)], Count(4, 1)),
        ([request(1), request(2, THERE), reply(2), reply(1)], Count(4)),  # moved on, and answered twice
        ([request(1), request(2, home=OTHER), reply(1), reply(2, OTHER)], Count(4)),
        ([request(1), request(1, home=OTHER), reply(1), reply(1, OTHER), request(2), reply(2)], Count(6)),
        ([request(1, THERE), request(2), request(3, THERE)], Count(3)),  # outside nobody inside answers
        ([request(0), reply(0), soon(1), reply(1)], Count(2, 2)),  # the answer had not reached who asked
        ([request(1, lifetime=0), reply(1), request(2, lifetime=0), reply(2)], Count(4)),
        ([ike(0), ike(1)], Count(2)),
        ([ike(0), ike(0)], Count(1, 1)),
    ],
)
def test_what_is_sent_again_is_counted_apart(passed, wanted) -> None:
    assert count(passed, 1) == wanted
    twice = [message for message in passed for _ in range(2)]
    assert count(twice, 2) == Count(2 * wanted.packets, 2 * wanted.again)
