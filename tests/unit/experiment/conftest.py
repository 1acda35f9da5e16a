"""What the tests of runs share."""

import pytest
from experiment_world import PlayedCaptures

from testbed.experiment import run as run_module


@pytest.fixture
def captures(monkeypatch):
    played = PlayedCaptures()
    monkeypatch.setattr(run_module, "Captures", lambda lab, taps: played.__init__(lab, taps) or played)
    return played
