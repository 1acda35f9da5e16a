"""What of a node is not as in another topology: rendered files, services, images and packages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import ndiff
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from testbed.errors import StepError
from testbed.lab.access import LabAccess
from testbed.render import REDACTED, RenderedNode, render_lab
from testbed.topology.load import builtin_topologies, load_topology
from testbed.topology.loaded import LoadedTopology
from testbed.topology.overrides import option_texts

_NAMES: Final = ("/etc/testbed/hosts", "/etc/testbed/node.json", "/etc/motd")
"""Files that hold the names of hosts, what a node itself is called, and what it is for people."""
_SERVICE: Final = re.compile(r"/etc/testbed/services/([^/]+)/")
_VERIFIED: Final = re.compile(r"^..5\S* +(/.*)$", re.MULTILINE)
"""A file of a package, not of its configuration, whose content is another (dpkg(1), --verify)."""


def other_topology(topology: LoadedTopology, name: str) -> LoadedTopology:
    """A built-in topology, with the options of another as far as it has them. Raises `StepError`."""
    if name not in builtin_topologies():
        raise StepError(f"there is no built-in topology {name}")
    known = _loaded(name, (), None).topology.options
    taken = {
        option: value
        for option, value in topology.options.items()
        if option in known and known[option].allows(value)
    }
    return _loaded(name, tuple(option_texts(taken)), None)


def node_differences(
    lab: LabAccess, node: str, other: LoadedTopology, there: str, what: str
) -> dict[str, Any]:
    """What of a node of a lab is not as of the node `there` of another topology (`claim.sight.Looker`).

    Raises `StepError` where the other topology has no such node, or the node does not report its packages.
    """
    if there not in other.nodes:
        raise StepError(f"{other.name} has no node {there}")
    mine, its = (
        _rendered(one.file, one.sets, one.templates)[name]
        for one, name in ((lab.topology, node), (other, there))
    )
    match what:
        case "configuration":
            return dict(_configuration(mine, its))
        case "services":
            return dict(_services(mine, its))
        case _:
            return dict(_software(lab, mine, its))


def _configuration(mine: RenderedNode, its: RenderedNode) -> Iterator[tuple[str, list[str]]]:
    """File → its lines that are only here (`+ …`) or only there (`- …`)."""
    for path in sorted(mine.files.keys() | its.files.keys()):
        if path in _NAMES or _SERVICE.match(path):
            continue
        texts = (one.files[path].content if path in one.files else "" for one in (its, mine))
        if changes := _changes(*texts):
            yield path, changes
    if changes := _changes(
        *("\n".join(f"{k} = {v}" for k, v in sorted(one.sysctls.items())) for one in (its, mine))
    ):
        yield "sysctls", changes


def _changes(before: str, after: str) -> list[str]:
    if before == after:
        return []
    return [line for line in ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


def _services(mine: RenderedNode, its: RenderedNode) -> Iterator[tuple[str, str]]:
    """Service → added, removed, or run otherwise."""
    here, there = _scripts(mine), _scripts(its)
    for name in sorted(here.keys() | there.keys()):
        if name not in there:
            yield name, "added"
        elif name not in here:
            yield name, "removed"
        elif here[name] != there[name]:
            yield name, "run otherwise"


def _scripts(node: RenderedNode) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, file in sorted(node.files.items()):
        if match := _SERVICE.match(path):
            found.setdefault(match[1], []).append(file.content)
    return found


def _software(lab: LabAccess, mine: RenderedNode, its: RenderedNode) -> Iterator[tuple[str, str]]:
    """The image where it is another, and each file that is not as its package has it."""
    if mine.image != its.image:
        yield "image", f"{mine.image or 'the testbed’s'} instead of {its.image or 'the testbed’s'}"
        return
    done = lab.execute(mine.name, ["dpkg", "--verify"], within=30.0)
    if done.complaint and not done.text and done.code > 1:
        raise StepError(f"{mine.name} does not report its packages: {done.complaint}")
    for path in _VERIFIED.findall(done.text):
        yield path, "not as its package has it"


@lru_cache(maxsize=16)
def _loaded(file: str, sets: tuple[str, ...], templates: Path | None) -> LoadedTopology:
    return load_topology(file, sets=sets, templates=templates)


@lru_cache(maxsize=16)
def _rendered(file: str, sets: tuple[str, ...], templates: Path | None) -> Mapping[str, RenderedNode]:
    """The nodes of a topology, without the secrets of a lab."""
    return render_lab(_loaded(file, sets, templates), lab="", secrets=REDACTED, templates=templates).nodes
