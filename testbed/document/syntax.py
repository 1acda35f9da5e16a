"""YAML's syntax, and its scalars after the core rules of YAML 1.2, as editors have them.

`on`, `yes` and `no` are text, `010` and `1:30` are not numbers in disguise.

libyaml reads ten times as fast as PyYAML's own parser, which words its errors better: what libyaml refuses,
the other reads again. So does a text with tabs, for the two disagree on where a tab may stand.
"""

from __future__ import annotations

import re
from contextlib import suppress

import yaml
from yaml.nodes import Node

try:
    from yaml import CSafeLoader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as CSafeLoader  # type: ignore[assignment]

TAG = "tag:yaml.org,2002:"
"""What the names of YAML's own tags begin with."""


class _Loader(yaml.SafeLoader):
    """PyYAML's parser and composer with the scalar rules of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?[0-9]+\.[0-9]*", list("-+0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(TAG + _tag, re.compile(f"(?:{_pattern})$"), _first)


class _Libyaml(CSafeLoader):
    """libyaml's parser and composer with the same rules."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def parse(text: str) -> Node | None:
    """The root of a text; None where there is nothing. Raises PyYAML's errors."""
    if "\t" not in text:
        with suppress(yaml.YAMLError):
            return _composed(text, _Libyaml)
    return _composed(text, _Loader)


def _composed(text: str, loader: type[_Loader | _Libyaml]) -> Node | None:
    node: Node | None = yaml.compose(text, Loader=loader)
    return node
