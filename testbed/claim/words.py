"""How words come into the vocabulary, and how a topology file gives one of them."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, ClassVar, Protocol, Self, TypeVar

from pydantic import ModelWrapValidatorHandler, model_validator

from testbed.document.part import Part
from testbed.document.values import Expected


class _Word(Protocol):
    order: ClassVar[int]


_Kind = TypeVar("_Kind", bound=_Word)


def words_in(package: str, folders: Iterable[str], kind: type[_Kind]) -> tuple[type[_Kind], ...]:
    """Import every module of a package; return its classes of a kind with a `word`, in their `order`."""
    for module in pkgutil.iter_modules(folders):
        import_module(f"{package}.{module.name}")
    return tuple(sorted(_with_word(kind), key=lambda one: one.order))


def _with_word(kind: type[_Kind]) -> Iterator[type[_Kind]]:
    for one in kind.__subclasses__():
        if "word" in vars(one):
            yield one
        yield from _with_word(one)


class OneWord(Part):
    """Exactly one word of a `KIND`; its subclass has a key for each."""

    KIND: ClassVar[type]
    EXPECTED: ClassVar[str]
    """What is said where there are none or several."""

    @model_validator(mode="wrap")
    @classmethod
    def _one(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(data)
        if len(list(made._given())) != 1:
            raise Expected(cls.EXPECTED, "begin each with a `-` of its own")
        return made

    def _given(self) -> Iterator[Any]:
        return (
            value for name in self.model_fields_set if isinstance(value := getattr(self, name), self.KIND)
        )

    @property
    def word(self) -> str:
        """The word of the vocabulary."""
        return str(next(self._given()).word)
