"""What of a node is not as it was rendered: lines of a file, or of its routes and rules."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from testbed.lab.differ import find_changes
from testbed.lesson.bench import Bench
from testbed.lesson.model import Difference

_KINDS: Final = {"routes": "route ", "rules": "rule ", "nftables": "nftables "}
"""What is asked for → how `testbed diff` begins its lines."""


def is_changed(bench: Bench, changed: Difference) -> bool:
    """Whether such a line was added, or is gone; blanks and comments do not count. Raises `TestbedError`."""
    change = find_changes(bench.access.engine, bench.access.name, [changed.node])[changed.node]
    if changed.rules:
        kind = _KINDS[changed.rules]
        now, before = (
            [line.removeprefix(kind) for line in lines if line.startswith(kind)]
            for lines in (change.added, change.lost)
        )
    else:
        file = next((one for one in change.files if one.path == changed.file), None)
        now = _lines((file.now or "").splitlines()) if file else []
        before = _lines((file.before or "").splitlines()) if file else []
    return _matches(changed.line, now, before) and _matches(changed.gone, before, now)


def _matches(expression: str | None, among: list[str], others: list[str]) -> bool:
    """Whether a line matches that is not among others; without an expression, yes."""
    return expression is None or any(re.search(expression, line) for line in among if line not in others)


def _lines(text: Iterable[str]) -> list[str]:
    """Without blanks around and between words, empty lines, and comments."""
    stripped = (" ".join(line.split()) for line in text)
    return [line for line in stripped if line and not line.startswith(("#", ";", "//"))]
