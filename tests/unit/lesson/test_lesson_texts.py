"""What the texts of the built-in lessons have learners type."""

import re

import pytest

from testbed.lesson.shelf import builtin_lessons

NEVER_ENDS = re.compile(r"^ *testbed exec (?!.*\btimeout \d).*\btcpdump\b(?!.* -c \d)", re.MULTILINE)


@pytest.mark.parametrize("folder", builtin_lessons().values(), ids=lambda folder: folder.name)
def test_each_tcpdump_in_a_node_ends_by_itself(folder):
    """Without a terminal Ctrl-C ends `testbed exec` alone; the program in the node goes on."""
    texts = (folder / "text.md").read_text() + (folder / "lesson.yaml").read_text()
    assert NEVER_ENDS.findall(texts) == []


def test_a_tcpdump_that_does_not_end_is_found():
    line = "          testbed exec LAB mn -- {} -n -i hotspot udp\n"
    assert NEVER_ENDS.search(line.format("tcpdump"))
    assert not NEVER_ENDS.search(line.format("timeout 20 tcpdump"))
    assert not NEVER_ENDS.search(line.format("tcpdump -c 2"))
