"""The engines of a lab, by name, and which of them answer.

An engine that does not answer is left out from then on, and that is said once; what needs it fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from testbed.engine.api import Engine, EngineError, UnreachableError
from testbed.engine.span import Say, in_each

_Result = TypeVar("_Result")


class _Lost(UnreachableError):
    """One that is named already."""


class Member(Engine, Protocol):
    """What an engine has to do beyond `Engine` to be one of several."""

    def save_image(self, name: str, file: Path) -> None:
        """Write an image to a tar file."""
        ...

    def load_image(self, file: Path) -> None:
        """Take the images of such a file."""
        ...


class Reachable:
    """Several engines, some of which may not answer; safe to share between threads."""

    def __init__(
        self,
        members: Mapping[str, Member],
        addresses: Mapping[str, str],
        say: Say,
        lost: Mapping[str, EngineError],
    ) -> None:
        """`members` are those that answer, `addresses` where all are reached, `lost` why others are not."""
        self.addresses = addresses
        self.say = say
        self._members = members
        self._lost: dict[str, EngineError] = {}
        self._lock = threading.Lock()
        for name, error in lost.items():
            self._lose(name, error)

    @property
    def address(self) -> str:
        """Where all of them are reached, in one line."""
        return ", ".join(f"{name}={address}" for name, address in self.addresses.items())

    @property
    def names(self) -> tuple[str, ...]:
        """Of all of them."""
        return tuple(sorted(self.addresses))

    @property
    def lost(self) -> dict[str, str]:
        """Those that do not answer: name → address."""
        return {name: self.addresses[name] for name in sorted(self._lost)}

    @property
    def live(self) -> list[str]:
        """The names of those that answer."""
        return [name for name in self._members if name not in self._lost]

    @property
    def first(self) -> str:
        """One that answers, always the same while it does. Raises `UnreachableError` where none does."""
        self.check()
        return self.live[0]

    def check(self) -> None:
        """Raise `UnreachableError` where none answers."""
        if not self.live:
            raise UnreachableError(f"none of the engines answers: {self.address}")

    def member(self, name: str) -> Member:
        """Return an engine. Raises `UnreachableError` where it does not answer."""
        if name in self._lost:
            raise self._unreachable(name)
        return self._members[name]

    @contextmanager
    def asking(self, name: str) -> Iterator[Member]:
        """An engine to ask something; where it does not answer any more, the error names it."""
        try:
            yield self.member(name)
        except _Lost:
            raise
        except UnreachableError as error:
            self._lose(name, error)
            raise self._unreachable(name) from error

    def each(self, call: Callable[[Member], _Result]) -> dict[str, _Result]:
        """Ask all that answer at once; return name → answer."""
        return self.on_each(lambda name: call(self._members[name]))

    def on_each(self, action: Callable[[str], _Result]) -> dict[str, _Result]:
        """The same with an action that is given the name."""
        found: dict[str, _Result] = {}

        def act(name: str) -> None:
            try:
                found[name] = action(name)
            except UnreachableError as error:
                self._lose(name, error)

        live = self.live
        in_each(live, act)
        return {name: found[name] for name in live if name in found}

    def close(self) -> None:
        """Give back connections."""
        for member in self._members.values():
            member.close()

    def _lose(self, name: str, error: EngineError) -> None:
        with self._lock:
            new = name not in self._lost
            self._lost[name] = error
        if new:
            self.say(f"{self._unreachable(name).message}: what is there is left out")

    def _unreachable(self, name: str) -> _Lost:
        return _Lost(f"engine {name} ({self.addresses[name]}) does not answer")
