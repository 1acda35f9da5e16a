"""The house has rooms, and imports go one way between them; this reads the imports and keeps it so."""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "testbed"

_TOPOLOGY = {"errors", "data", "agreed", "document", "packet", "evidence", "claim"}
_LAB = {*_TOPOLOGY, "topology", "render", "engine"}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "data": set(),
    "agreed": set(),
    "document": {"errors", "data", "agreed"},
    "packet": {"errors"},
    "evidence": {"errors", "agreed", "packet"},
    "claim": {"errors", "agreed", "document", "packet", "evidence"},
    "topology": _TOPOLOGY,
    "render": {*_TOPOLOGY, "topology"},
    "engine": {"errors", "data"},
    "lab": _LAB,
    "experiment": {*_LAB, "lab"},
    "report": {*_TOPOLOGY, "topology"},
    "cli": {*_LAB, "lab", "experiment", "report"},
    "__main__": {"cli"},
    # What runs inside the nodes: the image has no more of testbed than these two and `agreed`.
    "mobileip": set(),
    "node": {"agreed", "mobileip"},
}
"""Room → the rooms it may import."""

READS_THE_WIRE = {"packet", "report"}
"""Rooms that may use the codecs of Mobile IP, which know nothing but bytes, to read captures."""

INSIDE_NODES: dict[str, dict[str, set[str]]] = {
    "agreed": {},
    "mobileip": {"io": {"pyroute2"}, "tunnel": {"pyroute2"}},
    "node": {"": {"pyroute2", "vici"}},
}
"""What is not of the standard library and may be imported inside nodes, by folder ("" is the whole room)."""

FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(file) for file in FILES}


def imports(file: Path) -> set[str]:
    """Every module that a file imports, wherever in it, with relative imports resolved."""
    package = file.relative_to(PACKAGE.parent).parent.parts
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found |= {
                full if (full := f"{module}.{alias.name}") in MODULES else module for alias in node.names
            }
    return found


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


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


def test_the_core_knows_no_clock_and_no_socket() -> None:
    forbidden = {"time", "socket", "asyncio", "select", "selectors", "threading", "datetime"}
    for folder in ("wire", "core"):
        for file in (PACKAGE / "mobileip" / folder).glob("*.py"):
            tops = {module.split(".")[0] for module in imports(file)}
            assert not tops & forbidden, f"{file.relative_to(PACKAGE)} imports {tops & forbidden}"


def test_modules_are_short() -> None:
    long = {
        str(file.relative_to(PACKAGE)): lines
        for file in FILES
        if (lines := len(file.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long
