"""The house has rooms, and imports go one way between them; this reads the imports and keeps it so."""

from __future__ import annotations

import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from architecture import DOCUMENT, FILES, PACKAGE, arrows, imports, module_name, reduced, room, written

_TOPOLOGY = {"errors", "data", "agreed", "document", "packet", "evidence", "claim"}
_LAB = {*_TOPOLOGY, "topology", "render", "engine"}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "data": set(),
    "agreed": set(),
    "frames": set(),
    "document": {"errors", "data", "agreed"},
    "packet": {"errors"},
    "evidence": {"errors", "agreed", "packet"},
    "claim": {"errors", "agreed", "document", "packet", "evidence"},
    "topology": _TOPOLOGY,
    "render": {*_TOPOLOGY, "topology"},
    "engine": {"errors", "data", "frames"},
    "lab": _LAB,
    "experiment": {*_LAB, "lab"},
    "report": {*_TOPOLOGY, "topology"},
    "export": {*_LAB, "lab"},
    "lesson": {*_LAB, "lab", "experiment"},
    "watch": {*_LAB, "lab", "report"},
    "api": {*_LAB, "lab", "experiment"},
    "sweep": {*_LAB, "lab", "experiment", "api"},
    "simulate": {*_TOPOLOGY, "mobileip"},
    "cli": {*_LAB, "lab", "experiment", "report", "export", "lesson", "watch", "sweep", "simulate"},
    "pytest_plugin": {*_LAB, "lab", "experiment", "report"},
    "__main__": {"cli"},
    # What runs inside the nodes: the image has no more of testbed than these two, `agreed` and `frames`.
    "mobileip": set(),
    "node": {"agreed", "frames", "mobileip"},
}
"""Room → the rooms it may import."""

READS_THE_WIRE = {"packet", "report"}
"""Rooms that may use the codecs of Mobile IP, which know nothing but bytes, to read captures."""

INSIDE_NODES: dict[str, dict[str, set[str]]] = {
    "agreed": {},
    "frames": {},
    "mobileip": {},
    "node": {"": {"pyroute2", "vici"}},
}
"""What is not of the standard library and may be imported inside nodes, by folder ("" is the whole room)."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file: Path) -> None:
    if file == PACKAGE / "__init__.py":
        assert not any(module.startswith("testbed") for module in imports(file))
        return
    here = room(file)
    assert here in ALLOWED, f"testbed/{here} is a room nobody has planned: add it to ALLOWED"
    for module in imports(file):
        if module.startswith("testbed."):
            target = module.split(".")[1]
            codec = module.startswith("testbed.mobileip.wire") and here in READS_THE_WIRE
            assert target == here or target in ALLOWED[here] or codec, f"{here} imports {module}"


def test_no_module_imports_itself_through_others() -> None:
    """Not even where an import waits inside a function."""
    graph = {module_name(file): imports(file) - {module_name(file)} for file in FILES}
    TopologicalSorter(graph).prepare()  # CycleError names a circle


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if room(file) in INSIDE_NODES],
    ids=lambda file: str(file.relative_to(PACKAGE)),
)
def test_programs_inside_nodes_need_little(file: Path) -> None:
    parts = file.relative_to(PACKAGE).parts
    folders = INSIDE_NODES[room(file)]
    allowed = folders.get("", set()) | (folders.get(parts[1], set()) if len(parts) > 2 else set())
    for module in imports(file):
        top = module.split(".")[0]
        assert top in sys.stdlib_module_names or top == "testbed" or top in allowed, f"imports {module}"


def test_core_and_simulations_know_no_clock_and_no_socket() -> None:
    forbidden = {"time", "socket", "asyncio", "select", "selectors", "threading", "datetime"}
    for folder in ("mobileip/wire", "mobileip/core", "simulate"):
        for file in (PACKAGE / folder).rglob("*.py"):
            tops = {module.split(".")[0] for module in imports(file)}
            assert not tops & forbidden, f"{file.relative_to(PACKAGE)} imports {tops & forbidden}"


def test_modules_are_short() -> None:
    long = {
        str(file.relative_to(PACKAGE)): lines
        for file in FILES
        if (lines := len(file.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


def test_the_picture_shows_the_imports() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert document == written(document), "python tests/architecture.py draws it anew"
    assert "graph BT" in document


def test_a_picture_leaves_out_what_other_arrows_say() -> None:
    edges = {"a": {"b", "c"}, "b": {"c"}, "c": set[str]()}
    assert reduced(edges) == {"a": ["b"], "b": ["c"], "c": []}
    assert set(arrows()) == set(ALLOWED)
