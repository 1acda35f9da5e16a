"""The names that claims are written with: types that say what a name is of, and the check that uses them.

A field of type `NodeName`, `Tap` or `PcapFilter` is compared with the topology wherever it is: in a step, in
an expectation, or in a part of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Protocol, get_args

from pydantic import BeforeValidator, WithJsonSchema, model_validator

from testbed.document.marks import Path
from testbed.document.part import Part, Stack
from testbed.document.values import Expected, Name
from testbed.errors import did_you_mean
from testbed.packet.filters import FilterError, filter_hosts


class Fail(Protocol):
    """Reports an error: the path within the topology file, the message, a hint."""

    def __call__(self, path: Path, message: str, hint: str | None = None) -> None:
        """Report it."""


class Known(Protocol):
    """What a topology has, as far as claims name it (`cast.Named`, which is built on this room)."""

    networks: dict[str, Any]
    nodes: dict[str, Any]
    options: dict[str, Any]
    claims: dict[str, Any]
    guidelines: dict[str, Any]
    configurations: list[Any]
    deployed: list[Stack]

    def with_role(self, role: str) -> tuple[str, ...]:
        """The nodes that have a role, or one that acts as it."""


Problem = tuple[str, str | None]
"""What is wrong with a name, and a hint."""


@dataclass(frozen=True, slots=True)
class Names:
    """Marks a type: its values name something, and `problems` compares one with a topology."""

    problems: Callable[[str, Known], Iterator[Problem]]


def check_part(part: Part, where: Path, known: Known, fail: Fail) -> None:
    """Report every name in a part, and in the parts in it, that the topology does not have."""
    for name, key, names in _fields(type(part)):
        value = getattr(part, name)
        here: Path = (*where, key)
        if isinstance(value, Part):
            check_part(value, here, known, fail)
        elif value is not None:
            for mark in names:
                for one in value if isinstance(value, list) else [value]:
                    for message, hint in mark.problems(one, known):
                        fail(here, message, hint)


@cache
def _fields(kind: type[Part]) -> list[tuple[str, str, list[Names]]]:
    """Each field's name, its key, and what its values name."""
    return [
        (
            name,
            field.alias or name,
            [one for one in (*field.metadata, *_marks(field.annotation)) if isinstance(one, Names)],
        )
        for name, field in kind.model_fields.items()
    ]


def _marks(annotation: Any) -> Iterator[Any]:
    """Everything that is inside `Annotated[…]` in a type, `list[Tap] | None` as well."""
    yield from getattr(annotation, "__metadata__", ())
    for inside in get_args(annotation):
        yield from _marks(inside)


def _node(name: str, known: Known) -> Iterator[Problem]:
    if name not in known.nodes:
        yield f"unknown node {name}", did_you_mean(name, known.nodes)


def _tap(tap: str, known: Known) -> Iterator[Problem]:
    node, _, network = tap.partition("/")
    yield from _node(node, known)
    if node in known.nodes and network not in known.nodes[node].networks:
        yield f"{node} is not on {network}", did_you_mean(network, known.nodes[node].networks)


def _end(end: str, known: Known) -> Iterator[Problem]:
    yield from (_tap if "/" in end else _node)(end, known)


def _hosts(text: str, known: Known) -> Iterator[Problem]:
    for host in filter_hosts(text):
        yield from _node(host, known)


def _parse_tap(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9-]*/[a-z][a-z0-9-]*", value):
        return value
    hint = f"{value}/NETWORK" if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9-]*", value) else None
    raise Expected("a tap, written NODE/NETWORK, such as mn/hotel", hint)


def _parse_end(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9-]*(/[a-z][a-z0-9-]*)?", value):
        return value
    raise Expected("a node, or its address on a network: NODE/NETWORK")


def _parse_filter(value: Any) -> Any:
    if isinstance(value, str) and "$" not in value:  # else it is judged once its names are written out
        try:
            filter_hosts(value)
        except FilterError as error:
            raise Expected(f"a pcap filter ({error.message})", error.hint) from error
    return value


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _list_schema(**more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}, **more})


NodeName = Annotated[Name, Names(_node)]
"""The name of a node of the topology."""
Tap = Annotated[
    str,
    BeforeValidator(_parse_tap),
    WithJsonSchema(
        {"type": "string", "pattern": "^[a-z][a-z0-9-]*/[a-z][a-z0-9-]*$", "examples": ["mn/hotel"]}
    ),
    Names(_tap),
]
"""Where to capture, NODE/NETWORK; the node has an interface on the network."""
End = Annotated[
    str,
    BeforeValidator(_parse_end),
    WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9-]*(/[a-z][a-z0-9-]*)?$"}),
    Names(_end),
]
"""An address: NODE for the one that it is known by (a mobile node's home address), or NODE/NETWORK."""
PcapFilter = Annotated[str, BeforeValidator(_parse_filter), Names(_hosts)]
"""A pcap filter as tcpdump takes it, whose hosts are nodes or addresses."""
NodeNames = Annotated[list[NodeName], BeforeValidator(_one_or_more), _list_schema()]
Taps = Annotated[list[Tap], BeforeValidator(_one_or_more), _list_schema(examples=["mn/hotel"])]
Several = Annotated[list[Name], BeforeValidator(_one_or_more), _list_schema()]
"""Names of something that no general check knows, one or a list."""
Patterns = Annotated[list[str], BeforeValidator(_one_or_more), _list_schema()]
"""Shell patterns, one or a list."""
Changes = Annotated[list[str], BeforeValidator(_one_or_more), _list_schema()]
"""Changes to the topology as `--set` takes them, one or a list."""


class Short(Part):
    """A part that may be written as the value of its main key: `move: airport` is `move: {to: airport}`."""

    SHORT: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, data: Any) -> Any:
        return data if isinstance(data, dict) else {cls.SHORT: data}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Any:
        """Editors accept both ways of writing."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        short = schema["properties"][cls.SHORT]
        spelled = dict(schema)
        schema.clear()
        schema.update({"description": spelled.pop("description", ""), "anyOf": [short, spelled]})
        return schema
