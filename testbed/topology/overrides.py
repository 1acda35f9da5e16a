"""`--set`: changes to a topology on the command line, made before it is validated.

    network.NAME.KEY=VALUE      a key of a network:  network.internet.delay=40ms
    node.NAME.KEY=VALUE         a setting of a node: node.mn.lifetime=60s (node.mn.settings.lifetime too),
                                or one of its keys:  node.cn.image=debian:trixie
    image.ROLE=IMAGE            the image of the nodes with a role: image.home-agent=acme/ha
    role.ROLE=OTHER             another role in its place: role.home-agent=acme-ha
    option.NAME=VALUE           an option of the topology, also without the word: stack=mip-only

The value is YAML, as it would stand in the file. What is wrong with it is reported at the `--set` itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from testbed.document.marks import Marks
from testbed.document.read import parse_value
from testbed.errors import Source, TestbedError, TopologyError, did_you_mean, raise_errors
from testbed.topology.model import Network, Node

_SECTIONS = {
    "network": "networks",
    "networks": "networks",
    "node": "nodes",
    "nodes": "nodes",
    "image": "images",
    "images": "images",
    "role": "roles",
    "roles": "roles",
    "option": "options",
    "options": "options",
}
_SHAPE = (
    "network.NAME.KEY=VALUE, node.NAME.SETTING=VALUE, image.ROLE=IMAGE, role.ROLE=OTHER or option.NAME=VALUE"
)


def target(text: str) -> tuple[str, ...]:
    """What a `--set` text changes, the same however it is spelt: `stack=…` and `option.stack=…` are one."""
    words = [word.strip() for word in text.partition("=")[0].split(".")]
    section = _SECTIONS.get(words[0], words[0]) if len(words) > 1 else "options"
    names = words if len(words) == 1 else words[1:]
    if section == "nodes" and names[1:2] == ["settings"]:
        names = [names[0], *names[2:]]
    return (section, *names)


def option_texts(options: Mapping[str, object]) -> list[str]:
    """The `--set` texts that choose these options."""
    return [
        f"option.{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in options.items()
    ]


@dataclass(frozen=True, slots=True)
class Choice:
    """A value given to an option, and the `--set` it came from."""

    value: Any
    source: Source


@dataclass(frozen=True, slots=True)
class _Change:
    """A value for a part of the topology."""

    section: str
    names: tuple[str, ...]
    value: Any
    source: Source


@dataclass
class Sets:
    """The `--set` texts of a command: options first chosen, then parts changed, once they are written out."""

    choices: dict[str, Choice] = field(default_factory=dict)
    _changes: list[_Change] = field(default_factory=list)
    _errors: list[TestbedError] = field(default_factory=list)

    @classmethod
    def read(cls, data: dict[str, Any], texts: Sequence[str]) -> Sets:
        """Take the texts apart; `apply` reports what is wrong with them."""
        sets = cls()
        for text in texts:
            try:
                sets._read(data, text)
            except TestbedError as error:
                sets._errors.append(error)
        return sets

    def apply(self, data: dict[str, Any], marks: Marks) -> None:
        """Change `data` (and say so in `marks`); raises `TopologyError`, or an `ErrorGroup` of all errors."""
        for change in self._changes:
            try:
                _apply(data, marks, change)
            except TestbedError as error:
                self._errors.append(error)
        raise_errors(self._errors)

    def _read(self, data: dict[str, Any], text: str) -> None:
        source = Source(f"--set {text}")
        left, equals, right = text.partition("=")
        words = [word.strip() for word in left.split(".")]
        if not equals or not all(words):
            raise TopologyError(f"expected {_SHAPE}", source=source)
        value = parse_value(right, source.file)
        section = _SECTIONS.get(words[0]) if len(words) > 1 else "options"
        if section is None:
            hint = did_you_mean(words[0], ["network", "node", "image", "role", "option"])
            raise TopologyError(f"expected {_SHAPE}", hint=hint, source=source)
        names = words if len(words) == 1 else words[1:]
        change = _Change(section, tuple(names), value, source)
        if section != "options":
            self._changes.append(change)
            return
        _check_name(data, change)
        if len(names) != 1:
            raise TopologyError("expected option.NAME=VALUE", source=source)
        self.choices[names[0]] = Choice(value, source)


def _check_name(data: dict[str, Any], change: _Change) -> None:
    parts = data.get(change.section)
    known = parts if isinstance(parts, dict) else {}
    name = change.names[0]
    if name not in known:
        one = change.section.removesuffix("s")
        hint = did_you_mean(name, known)
        raise TopologyError(f"the topology has no {one} {name}", hint=hint, source=change.source)


def _apply(data: dict[str, Any], marks: Marks, change: _Change) -> None:
    names, source = list(change.names), change.source
    if change.section == "images":  # whether a node has such a role is checked with those of the file
        if len(names) != 1:
            raise TopologyError("expected image.ROLE=IMAGE", source=source)
        _put(data, marks, ("images", *names), change.value, source)
        return
    if change.section == "roles":
        if len(names) != 1:
            raise TopologyError("expected role.ROLE=OTHER", source=source)
        _exchange(data, marks, names[0], change.value, source)
        return
    _check_name(data, change)
    if len(names) < 2:
        one = change.section.removesuffix("s")
        raise TopologyError(f"expected {one}.{names[0]}.KEY=VALUE", source=source)
    if change.section == "networks" and names[1] not in Network.model_fields:
        hint = did_you_mean(names[1], Network.model_fields)
        raise TopologyError(f"a network has no key {names[1]}", hint=hint, source=source)
    if change.section == "nodes" and names[1] not in Node.model_fields:
        names[1:1] = ["settings"]
    _put(data, marks, (change.section, *names), change.value, source)


def _exchange(data: dict[str, Any], marks: Marks, role: str, other: Any, source: Source) -> None:
    """Give every node that has a role another in its place; whether that does is checked with the rest."""
    nodes = data.get("nodes")
    having: dict[str, list[Any]] = {
        name: node["roles"]
        for name, node in (nodes.items() if isinstance(nodes, dict) else ())
        if isinstance(node, dict) and isinstance(node.get("roles"), list)
    }
    found = [name for name, roles in having.items() if role in roles]
    if not found:
        known = [one for roles in having.values() for one in roles if isinstance(one, str)]
        raise TopologyError(f"no node has the role {role}", hint=did_you_mean(role, known), source=source)
    for name in found:
        index = having[name].index(role)
        having[name][index] = other
        marks.replace(("nodes", name, "roles", index), source)


def _put(data: dict[str, Any], marks: Marks, path: tuple[str, ...], value: Any, source: Source) -> None:
    here = data
    for depth, part in enumerate(path[:-1], 1):
        below = here.get(part)
        if below is None:
            below = here[part] = {}
            marks.replace(path[:depth], source)
        if not isinstance(below, dict):
            raise TopologyError(f"{'.'.join(path[:depth])} has no keys", source=source)
        here = below
    here[path[-1]] = value
    marks.replace(path, source)
