"""What differs in a running lab from what was rendered: files, links, addresses, routes, rules, services."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from difflib import unified_diff
from typing import Final

from testbed.engine.api import Container, Engine
from testbed.lab.drift import Drift, find_drift
from testbed.lab.inside import in_each, run_inside
from testbed.lab.original import original_files, original_topology
from testbed.lab.state import find_lab
from testbed.render import RenderedNode

_EDITED: Final = "edited "
_ADDED_FILE: Final = "added file "


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file of a node that is not as it was rendered."""

    path: str
    before: str | None
    """As rendered; None for a file that was not."""
    now: str | None
    """As it is; None where it is gone."""

    def unified(self, node: str) -> str:
        """The difference as `diff -u` prints it."""
        name = f"{node}:{self.path}"
        return "\n".join(
            unified_diff(
                (self.before or "").splitlines(),
                (self.now or "").splitlines(),
                "/dev/null" if self.before is None else name,
                "/dev/null" if self.now is None else name,
                lineterm="",
            )
        )


@dataclass(frozen=True, slots=True)
class NodeChange:
    """How a node differs from what was rendered."""

    files: tuple[FileChange, ...] = ()
    lost: tuple[str, ...] = ()
    """Links, addresses, routes, rules and nftables rules that are gone."""
    added: tuple[str, ...] = ()
    """The same that were not there, and that no daemon of the node adds."""
    stopped: tuple[str, ...] = ()
    paused: tuple[str, ...] = ()
    unknown: str | None = None
    """Why the node cannot be compared; None if it was."""

    @property
    def any(self) -> bool:
        """Whether there is a difference."""
        return bool(self.files or self.lost or self.added or self.stopped or self.paused)


def find_changes(engine: Engine, lab: str, nodes: Collection[str] = ()) -> dict[str, NodeChange]:
    """Compare running nodes of a lab, all or those named, with what was rendered; return node → difference.

    Raises `UsageError` (no such lab or node, a node that does not run, a topology file that is gone or has
    changed since), `TestbedError`.
    """
    actual = find_lab(engine, lab)
    wanted = {name: actual.running_node(name) for name in nodes or actual.nodes}
    rendered = original_files(engine, actual, original_topology(engine, actual))
    drift = find_drift(engine, wanted, rendered.nodes)

    def compare(name: str, container: Container) -> NodeChange:
        return _change(engine, container, rendered.nodes[name], drift[name])

    return in_each(wanted, compare)


def _change(engine: Engine, container: Container, node: RenderedNode, drift: Drift) -> NodeChange:
    words = [*drift.changes, *drift.additions]
    paths = [
        word.removeprefix(kind) for kind in (_EDITED, _ADDED_FILE) for word in words if word.startswith(kind)
    ]
    files = []
    for path in paths:
        done = run_inside(engine, container, ["cat", path])
        before = node.files[path].content if path in node.files else None
        files.append(FileChange(path, before, done.text if done.code == 0 else None))
    return NodeChange(
        files=tuple(files),
        lost=tuple(word.removeprefix("lost ") for word in words if word.startswith("lost ")),
        added=tuple(
            word.removeprefix("added ")
            for word in words
            if word.startswith("added ") and not word.startswith(_ADDED_FILE)
        ),
        stopped=drift.stopped,
        paused=drift.paused,
        unknown=drift.unknown,
    )
