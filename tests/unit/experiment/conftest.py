"""What the tests of runs share."""

import pytest
from experiment_world import play_captures


@pytest.fixture
def captures(monkeypatch):
    """The captures of whatever run is carried out."""
    return play_captures(monkeypatch)
