"""The model of `study.yaml`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from testbed.document.part import Part, Stack
from testbed.document.values import Delay, Expected, Label

MOST_VALUES: Final = 1000
_QUANTITY = re.compile(r"(-?\d+(?:\.\d+)?) ?([A-Za-z%]*)", re.ASCII)
_RANGE_KEYS: Final = ("from", "to", "step")


def parse_values(value: Any) -> list[str]:
    """The values of an option as `--set` has them: a list, or a range `{from: 0%, to: 4%, step: 1%}`."""
    if isinstance(value, dict):
        return _range(value)
    if not isinstance(value, list) or not value or any(isinstance(one, (list, dict)) for one in value):
        raise Expected("a list of values, or {from: …, to: …, step: …}", "write [0%, 1%, 2%]")
    texts = [str(one).lower() if isinstance(one, bool) else str(one) for one in value]
    if twice := next((one for one in texts if texts.count(one) > 1), None):
        raise Expected("different values", f"{twice} is there twice")
    return texts


def _range(value: dict[str, Any]) -> list[str]:
    if set(value) != set(_RANGE_KEYS):
        raise Expected("a range with the keys from, to and step", "write {from: 0%, to: 4%, step: 1%}")
    found = [_QUANTITY.fullmatch(str(value[key])) for key in _RANGE_KEYS]
    if not all(found) or len({match[2] for match in found if match and (match[2] or Decimal(match[1]))}) > 1:
        raise Expected("numbers of one unit as from, to and step", "write {from: 0%, to: 4%, step: 1%}")
    first, last, step = (Decimal(match[1]) for match in found if match)
    unit = next((match[2] for match in found if match and match[2]), "")
    if step <= 0 or last < first:
        raise Expected("a step above zero, and `to` not below `from`")
    count = int((last - first) / step) + 1
    if count > MOST_VALUES:
        raise Expected(f"at most {MOST_VALUES} values")
    return [f"{(first + number * step).normalize():f}{unit}" for number in range(count)]


Values = Annotated[
    list[str],
    BeforeValidator(parse_values),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "minItems": 1, "items": {"type": ["string", "number", "boolean"]}},
                {
                    "type": "object",
                    "properties": {key: {"type": ["string", "number"]} for key in _RANGE_KEYS},
                    "required": list(_RANGE_KEYS),
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class HandOffPart(Part):
    """Hand-offs to measure, as `testbed measure handoff` does, all in one lab."""

    rtt: list[Delay] = Field(
        min_length=1, default=[0.0], description="Round-trip times across the hub network; one task has all"
    )
    moves: int = Field(ge=1, le=1000, default=10, description="Moves at each round-trip time")
    between: list[str] = Field(
        default_factory=list, description="The two networks (default: the first two that the stack supports)"
    )


class Study(Part):
    """What is varied, and what is found out with each combination."""

    name: Label = Field(description="What the study is called")
    title: str = Field(default="", description="What it is about, in a line")
    topologies: list[str] = Field(
        min_length=1, description="Built-in topologies or solutions by name, or files beside the study"
    )
    stacks: list[Stack] = Field(
        default_factory=list,
        description="The stacks to measure (default: the topology's own); of claims those that speak of them",
    )
    options: dict[str, Values] = Field(
        default_factory=dict,
        description="What is varied, by the names of `--set`: lists or ranges",
    )
    claims: list[str] = Field(
        default_factory=list, description="Claims to decide, by name or pattern; each is a task"
    )
    retries: int = Field(
        ge=0,
        le=9,
        default=0,
        description="How often a claim that is not reproduced is tried again",
    )
    handoff: HandOffPart | None = Field(default=None, description="Hand-offs to measure")
    repetitions: int = Field(ge=1, le=10_000, default=1, description="How often each combination is tried")
    seed: int = Field(
        ge=0,
        default=1,
        description="The seed of the first repetition; each later one has the next. It decides the order of "
        "the tasks, and of the round-trip times in each",
    )
