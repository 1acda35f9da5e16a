"""Lessons walked both ways, but for those on scenario 2.1."""

import pytest
from lesson_walk import WALKED, walk

from testbed.lesson.load import load_lesson

HERE = [name for name in WALKED if load_lesson(name).lesson.topology != "scenario-2.1"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", HERE)
def test_lesson_both_ways(name, testbed_lab, learner):
    walk(name, testbed_lab)
