"""What host and nodes agree on, where a text must say it once more."""

from __future__ import annotations

from typing import get_args

import pytest

from testbed import agreed
from testbed.claim.steps.move import Move
from testbed.data import data_dir
from testbed.experiment.claims import perform
from testbed.mobileip.io import bulk_moves
from testbed.node.relay import relay_toml
from testbed.node.roam import roam_toml


def test_a_move_step_can_ask_for_each_step_of_a_hand_off() -> None:
    """`reaches` is a Literal, which a type checker has to read."""
    (literal, _) = get_args(Move.model_fields["reaches"].annotation)
    assert get_args(literal) == tuple(agreed.STEPS.values())


def test_a_crowd_reports_while_somebody_waits_for_it() -> None:
    """Daemons of Mobile IP stand alone and cannot read it."""
    assert bulk_moves.PATIENCE == agreed.CROWD_PATIENCE < perform.CROWD_WITHIN


@pytest.mark.parametrize("program", ["init", "drift"])
def test_scripts_know_the_folder(program: str) -> None:
    text = (data_dir("images") / program).read_text()
    assert f"{agreed.RUN}" in text


@pytest.mark.parametrize(("module", "service"), [(roam_toml, agreed.ROAM), (relay_toml, agreed.RELAY)])
def test_documentation_names_the_socket(module: object, service: str) -> None:
    assert f'control = "{agreed.control_socket(service)}"' in str(module.__doc__)
