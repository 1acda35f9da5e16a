"""The lessons on scenario 2.1, walked both ways, beside the other lessons; and a claim, a step a key."""

import re

import pytest
from lesson_walk import WALKED, walk
from terminal import typed

from testbed.lesson.guided import _unlike
from testbed.lesson.load import load_lesson
from testbed.topology.load import load_topology

HERE = [name for name in WALKED if load_lesson(name).lesson.topology == "scenario-2.1"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", HERE)
def test_lesson_both_ways(name, testbed_lab, learner):
    walk(name, testbed_lab)


def test_a_claim_step_by_step(testbed_lab):
    """`explain --live` in a learner's lab, a key a step; a lab of another stack is not taken for it."""
    lab = testbed_lab("scenario-2.1")
    lab.changed = True
    shown = typed("explain", "2.1-fa-mn-deaf", "--live", lab.name, waits_for=b"[any key")
    assert shown.code == 0, shown.text
    assert "## The run" in shown.text and "## The control" in shown.text
    assert shown.text.count("✓") >= 4 and not re.search("[✗?] ", shown.text), shown.text
    assert f"testbed capture {lab.name} mn/hotspot" in shown.words
    other = _unlike(lab.engine, lab.name, load_topology("scenario-2.1", sets=("option.stack=mip-only",)))
    assert other == ["option.stack mip-in-ipsec → mip-only"]
    assert _unlike(lab.engine, "no-such-lab", lab.topology) == ["there is no lab no-such-lab"]
