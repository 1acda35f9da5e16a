"""Objects that hold values and never change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a dataclass that is compared and hashed by its fields.

    That nobody assigns to a field is for type checkers to see. A frozen dataclass sees to it at each field of
    each object, which takes four times as long, and a message makes a dozen objects. What compares, hashes
    and shows an object is not compiled for each class: that halves what a class costs a daemon's start.
    """
    made = dataclass(slots=True, eq=False, repr=False)(cls)
    compared = [each.name for each in fields(made) if each.compare]  # type: ignore[arg-type]
    made.__eq__, made.__hash__ = _comparison(  # type: ignore[method-assign, assignment]
        attrgetter(*compared) if compared else type
    )
    made.__repr__ = _shown  # type: ignore[method-assign]
    return made


def _comparison(content: Callable[[Any], Any]) -> tuple[Callable[[Any, Any], bool], Callable[[Any], int]]:
    """`__eq__` and `__hash__` by what `content` takes from an object."""

    def equal(self: Any, other: object) -> bool:
        return content(self) == content(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(content(self))

    return equal, hashed


def _shown(self: Any) -> str:
    shown = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{type(self).__qualname__}({shown})"
