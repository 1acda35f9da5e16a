"""`--set`: changes to a topology on the command line, made before it is validated.

    network.NAME.KEY=VALUE      a key of a network:  network.internet.delay=40ms
    node.NAME.KEY=VALUE         a setting of a node: node.mn.lifetime=60s (node.mn.settings.lifetime too),
                                or one of its keys:  node.cn.image=debian:trixie
    option.NAME=VALUE           an option of the topology, also without the word: stack=mip-only

The value is YAML, as it would stand in the file. What is wrong with it is reported at the `--set` itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from testbed.errors import Source, TestbedError, TopologyError, did_you_mean, raise_errors
from testbed.topology.document import parse_value
from testbed.topology.marks import Marks
from testbed.topology.model import Network, Node

_SECTIONS = {
    "network": "networks",
    "networks": "networks",
    "node": "nodes",
    "nodes": "nodes",
    "option": "options",
    "options": "options",
}
_SHAPE = "network.NAME.KEY=VALUE, node.NAME.SETTING=VALUE or option.NAME=VALUE"


@dataclass(frozen=True, slots=True)
class Choice:
    """A value given to an option, and the `--set` it came from."""

    value: Any
    source: Source


def apply_sets(data: dict[str, Any], marks: Marks, sets: Sequence[str]) -> dict[str, Choice]:
    """Change `data` (and say so in `marks`) as the `--set` texts ask; return the options they choose.

    Raises `TopologyError`, or an `ErrorGroup` of all that are wrong.
    """
    choices: dict[str, Choice] = {}
    errors: list[TestbedError] = []
    for text in sets:
        try:
            _apply(data, marks, text, choices)
        except TestbedError as error:
            errors.append(error)
    raise_errors(errors)
    return choices


def _apply(data: dict[str, Any], marks: Marks, text: str, choices: dict[str, Choice]) -> None:
    source = Source(f"--set {text}")
    left, equals, right = text.partition("=")
    words = [word.strip() for word in left.split(".")]
    if not equals or not all(words):
        raise TopologyError(f"expected {_SHAPE}", source=source)
    value = parse_value(right, source.file)
    section = _SECTIONS.get(words[0]) if len(words) > 1 else "options"
    if section is None:
        raise TopologyError(
            f"expected {_SHAPE}", hint=did_you_mean(words[0], ["network", "node", "option"]), source=source
        )
    names = words if len(words) == 1 else words[1:]
    parts = data.get(section)
    known = parts if isinstance(parts, dict) else {}
    if names[0] not in known:
        one = section.removesuffix("s")
        raise TopologyError(
            f"the topology has no {one} {names[0]}", hint=did_you_mean(names[0], known), source=source
        )
    if section == "options":
        if len(names) != 1:
            raise TopologyError("expected option.NAME=VALUE", source=source)
        choices[names[0]] = Choice(value, source)
        return
    if len(names) < 2:
        raise TopologyError(f"expected {words[0]}.{names[0]}.KEY=VALUE", source=source)
    if section == "networks" and names[1] not in Network.model_fields:
        raise TopologyError(
            f"a network has no key {names[1]}",
            hint=did_you_mean(names[1], Network.model_fields),
            source=source,
        )
    if section == "nodes" and names[1] not in Node.model_fields:
        names[1:1] = ["settings"]
    _put(data, marks, (section, *names), value, source)


def _put(data: dict[str, Any], marks: Marks, path: tuple[str, ...], value: Any, source: Source) -> None:
    here = data
    for depth, part in enumerate(path[:-1], 1):
        below = here.setdefault(part, {})
        if below is None:
            below = here[part] = {}
        if not isinstance(below, dict):
            raise TopologyError(f"{'.'.join(path[:depth])} has no keys", source=source)
        here = below
    here[path[-1]] = value
    marks.replace(path, source)
