"""Simulations take the very messages that labs took, of which recorded.yaml has the numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from simulated import Step, simulated

from testbed.simulate import gateway

RECORDED = yaml.safe_load(Path(__file__).with_name("recorded.yaml").read_text(encoding="utf-8"))


def steps(solution: str) -> list[Step]:
    return [
        Step((*each["nodes"],), (*each["to"],), each["internet"], each["home-agent"])
        for each in RECORDED[solution]
    ]


@pytest.mark.parametrize("solution", RECORDED)
def test_a_simulation_takes_the_messages_of_the_lab(solution) -> None:
    lab = steps(solution)
    assert simulated(solution, [step[:2] for step in lab]) == lab


def test_a_number_of_ike_messages_that_is_wrong_shows(monkeypatch) -> None:
    costs = gateway.ike_costs()
    wrong = gateway.IkeCosts(
        1, costs.octets, costs.timeout, costs.base, costs.limit, costs.tries, costs.dead_peer_detection
    )
    monkeypatch.setattr(gateway, "ike_costs", lambda: wrong)
    lab = steps("nothing")
    assert simulated("nothing", [step[:2] for step in lab]) != lab
