"""Writes plain data as a YAML document for readers: short parts on one line, remarks behind what they are on.

What is written reads back as the same data, by the rules of `read` and by those of YAML 1.1 alike.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from functools import lru_cache
from math import inf
from typing import Any

import yaml

from testbed.document.marks import Path

WIDTH = 110
"""Characters of a line, its remark not counted; what has no place to break is longer."""

Remark = Callable[[Path], str]
"""What is to be said of the part at a path; empty: nothing."""


def document_text(data: dict[str, Any], remark: Remark = lambda _: "") -> str:
    """The document, its keys in their order; a remark is a comment behind the first line of its part."""
    return "".join(f"{line}\n" for line in _mapping(data, (), "", remark))


def _mapping(data: dict[str, Any], path: Path, pad: str, remark: Remark) -> Iterator[str]:
    for key, value in data.items():
        here = (*path, key)
        if not path and key != next(iter(data)) and isinstance(value, dict | list):
            yield ""
        yield from _part(f"{pad}{_key(key)}:", value, here, pad, remark)


def _part(head: str, value: Any, path: Path, pad: str, remark: Remark) -> Iterator[str]:
    """A value behind its key or dash, on this line or on the next ones."""
    comment = _comment(remark(path))
    short = f"{head} {_short(value)}"
    folded = isinstance(value, str) and len(short) > WIDTH and _folds(value)
    if folded:
        yield f"{head} {'>' if value.endswith(chr(10)) else '>-'}{comment}"
        below = pad + "  "
        yield from textwrap.wrap(
            value, WIDTH, initial_indent=below, subsequent_indent=below,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    elif not value or not isinstance(value, dict | list) or _on_one_line(value, short, path, remark):
        yield short + comment
    elif isinstance(value, dict):
        yield head + comment
        yield from _mapping(value, path, pad + "  ", remark)
    else:
        yield head + comment
        for index, one in enumerate(value):
            yield from _item(one, (*path, index), pad + "  ", remark)


def _item(value: Any, path: Path, pad: str, remark: Remark) -> Iterator[str]:
    line = f"{pad}- {_short(value)}"
    if (
        not isinstance(value, dict)
        or not value
        or (len(value) > 1 and _on_one_line(value, line, path, remark))
    ):
        yield from _part(f"{pad}-", value, path, pad, remark)
        return
    # The first key stands behind the dash, and so does what is to be said of the whole.
    first, *rest = _mapping(value, path, pad + "  ", remark)
    own = remark((*path, next(iter(value))))
    yield f"{pad}- {first.lstrip()}{'' if own else _comment(remark(path))}"
    yield from rest


def _on_one_line(value: Any, line: str, path: Path, remark: Remark) -> bool:
    """Whether a collection is written in brackets: short, below the sections, and with no remark inside."""
    return len(path) > 1 and len(line) <= WIDTH and _flat(value) and not any(map(remark, _below(value, path)))


def _flat(value: Any) -> bool:
    """Whether no list in it has parts of its own."""
    if isinstance(value, list):
        return not any(isinstance(one, dict | list) for one in value)
    return not isinstance(value, dict) or all(map(_flat, value.values()))


def _below(value: Any, path: Path) -> Iterator[Path]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in parts:
        yield (*path, key)
        yield from _below(one, (*path, key))


def _folds(text: str) -> bool:
    """Whether a text comes back from lines that are folded: its words are apart by one space."""
    line = text.removesuffix("\n")
    return line == " ".join(line.split()) and line.isprintable()


def _short(value: Any, *, inside: bool = False) -> str:
    """The value on one line; `inside` brackets more has to be quoted."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)}: {_short(one, inside=True)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_short(one, inside=True) for one in value) + "]"
    return _scalar(value, inside)


def _key(key: str) -> str:
    return _scalar(key, True)


@lru_cache(maxsize=None, typed=True)  # typed: 1, 1.0 and true are equal
def _scalar(value: Any, inside: bool) -> str:
    """A scalar as PyYAML writes it."""
    data = [value] if inside else value
    text: str = yaml.safe_dump(data, default_flow_style=True, allow_unicode=True, width=inf)
    return text.rstrip("\n")[1:-1] if inside else text.removesuffix("\n").removesuffix("\n...")


def _comment(remark: str) -> str:
    plain = " ".join("".join(one if one.isprintable() else " " for one in remark).split())
    return f"  # {plain}" if plain else ""
