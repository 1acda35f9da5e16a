"""Copies and merges parts of documents: plain data together with the marks that say where it was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from testbed.document.marks import Mark, Marks, Path


def copied(value: Any) -> Any:
    """A deep copy of plain data."""
    if isinstance(value, Mapping):
        return {key: copied(one) for key, one in value.items()}
    return [copied(one) for one in value] if isinstance(value, list) else value


def graft(
    value: Any,
    at: Path,
    marks: Marks,
    to: Path,
    into: Marks,
    write: Callable[[str], Any] = lambda text: text,
) -> Any:
    """A copy of the value at a path of one document for a path of another (or the same), its marks with it.

    `write` is given every text, keys included, and says what stands there in the copy.
    """
    if (mark := marks.at.get(at)) is not None:
        changed = isinstance(value, str) and write(value) != value
        into.at[to] = Mark(mark.value, mark.key) if changed else mark
    if isinstance(value, dict):
        result = {}
        for key, one in value.items():
            new = str(write(key))
            result[new] = graft(one, (*at, key), marks, (*to, new), into, write)
        return result
    if isinstance(value, list):
        return [graft(one, (*at, i), marks, (*to, i), into, write) for i, one in enumerate(value)]
    return write(value) if isinstance(value, str) else value


def merge(
    target: dict[str, Any],
    into: Marks,
    value: Mapping[str, Any],
    marks: Marks,
    path: Path = (),
    *,
    grow: bool,
) -> None:
    """Merge a mapping into another at the same path, key by key and deep.

    With `grow` lists are joined and every other value that is there stays; else the new one takes its place.
    """
    for key, new in value.items():
        here = (*path, key)
        old = target.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            merge(old, into, new, marks, here, grow=grow)
        elif key not in target or old is None or not grow:
            _forget(old, here, into)
            target[key] = graft(new, here, marks, here, into)
        elif isinstance(old, list) and isinstance(new, list):
            append(old, here, into, new, here, marks)


def append(old: list[Any], to: Path, into: Marks, new: list[Any], at: Path, marks: Marks) -> None:
    """Join a list to another."""
    for index, one in enumerate(new):
        old.append(graft(one, (*at, index), marks, (*to, len(old)), into))


def _forget(value: Any, path: Path, marks: Marks) -> None:
    """Nothing is written any more where a value is being replaced."""
    marks.at.pop(path, None)
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in parts:
        _forget(one, (*path, key), marks)
