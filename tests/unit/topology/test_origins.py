from __future__ import annotations

from pathlib import Path

import pytest

from testbed.render import REDACTED, render_lab
from testbed.topology.load import builtin_topologies, load_topology

SETS = {"scenario-2.5": ["further-links=3"], "scenario-2.2": ["routing=unmodified"]}
SECTIONS = ("options", "networks", "nodes", "claims")


@pytest.mark.parametrize("name", builtin_topologies())
def test_a_resolved_topology_is_the_same_one(name: str, tmp_path: Path) -> None:
    loaded = load_topology(name, sets=["node.mn.image=acme/mn:1", *SETS.get(name, [])])
    file = tmp_path / f"{loaded.name}.yaml"
    file.write_text(loaded.text(origins=True))
    again = load_topology(str(file))
    assert again.topology.claims == loaded.topology.claims
    assert again.options == loaded.options
    rendered, expected = (render_lab(one, lab="it", secrets=REDACTED).nodes for one in (again, loaded))
    assert rendered == expected


@pytest.mark.parametrize("name", builtin_topologies())
def test_each_part_says_where_it_was_written(name: str) -> None:
    loaded = load_topology(name)
    lines = loaded.text(origins=True).splitlines()
    for section in SECTIONS:
        for part in loaded.document.get(section, {}):
            (line,) = (one for one in lines if one.startswith(f"  {part}:"))
            source = loaded.marks.key((section, part))
            place = f"topologies/{source.file.rpartition('/topologies/')[2]}:{source.line}"
            assert line.endswith(f" {place}")
            written = Path(source.file).read_text().splitlines()[source.line - 1]  # type: ignore[operator]
            assert f"{part.rstrip('0123456789')}" in written


def test_what_was_merged_changed_or_repeated_says_so_itself(tmp_path: Path) -> None:
    text = load_topology(
        "scenario-2.5", sets=["network.internet.delay=40ms", "further-links=1", "attach=airport"]
    ).text(origins=True)
    for line in (
        "    delay: 40ms  # --set network.internet.delay=40ms",
        "    default: 1  # --set further-links=1",
        "    default: airport  # --set attach=airport",
        "      servers: 10.0.4.1  # topologies/shared/servers.yaml:7",
    ):
        assert line in text.splitlines()
    assert "  gw-1:  # topologies/scenario-2.5.yaml:" in text
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\ninclude: [scenario-2.1.yaml]\nnetworks:\n  internet:\n    delay: 3ms # slow\n"
    )
    mine = load_topology(str(file)).text(origins=True)
    assert f"    delay: 3ms  # slow; {file}:5\n" in mine
    assert "name: mine  # " in mine
    assert "filter: esp or udp port 500 or udp port 4500, at-least: 1}  # it did try\n" in mine
