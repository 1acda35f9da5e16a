"""How words come into the vocabulary: every class with a `word`, in any file of a folder."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import ClassVar, Protocol, TypeVar


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
