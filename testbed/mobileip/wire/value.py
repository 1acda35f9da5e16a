"""Objects that hold values and never change."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a dataclass that is compared and hashed by its fields.

    That nobody assigns to a field is for type checkers to see. A frozen dataclass sees to it at each field of
    each object, which takes four times as long, and a message makes a dozen objects. What shows an object is
    the same function for all: less to compile when a daemon starts.
    """
    made = dataclass(slots=True, unsafe_hash=True, repr=False)(cls)
    made.__repr__ = _shown  # type: ignore[method-assign]
    return made


def _shown(self: Any) -> str:
    shown = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__qualname__}({shown})"
