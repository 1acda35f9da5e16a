"""Objects that hold values and never change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a dataclass that is compared and hashed by its fields.

    That nobody assigns to a field is for type checkers to see. A frozen dataclass would take four times as
    long to make, as it sees to that at each field of each object, and a message makes a dozen of them.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
