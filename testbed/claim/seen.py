"""What all expectations share: how many of something, and what a slow machine can do to what is seen."""

from __future__ import annotations

from functools import cache
from math import inf
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, TypeAdapter, ValidationError, model_validator

from testbed.claim.names import Fail, Known
from testbed.claim.sight import Decision, Facts, Looker, Sight
from testbed.document.marks import Path
from testbed.document.part import Part
from testbed.document.values import Expected

PATIENCE: Final = 1000.0
"""The shortest bound in play in ms: an echo request is waited for as long, and a lost message of IKE or of a
registration is sent again after as long.
"""

SETTLING: Final = 3000.0
"""The shortest time in ms after which a move does without a step: an address. The other steps have more."""

LOGGED: Final = 1000.0
"""Milliseconds that an event may take through the engine's log, and a registration to an agent."""


GIVING_UP: Final = 12800.0
"""The time in ms after which charon gives up on a peer that does not answer (`strongswan.conf`)."""


class Seen(Part):
    """A word of the vocabulary: something to be seen. Its docstring is the meaning, its fields are the keys.

    A class in a file of `testbed/claim/expect/` that has a `word` is part of the vocabulary; nothing else has
    to know of it.
    """

    word: ClassVar[str]
    """What is written in a claim, such as `esp-sas`."""
    title: ClassVar[str]
    """What it is, in one line."""
    order: ClassVar[int] = 1000
    """Its place in the vocabulary: the lowest comes first."""

    TOO_LITTLE: ClassVar[float | None] = PATIENCE
    """The shortest bound in ms by whose end something may be missing; None: slowness explains nothing."""
    TOO_MUCH: ClassVar[float | None] = None
    """The same of what was seen and must not be."""
    ON_ITS_WAY: ClassVar[float] = 0.0
    """How many ms after it happened it may be seen."""

    SEEN: ClassVar[Any] = Any
    """The type of what `look` and `begin` return; evidence, which anybody may edit, that holds anything else
    decides nothing.
    """

    BY_CAPTURES: ClassVar[bool] = False
    """Whether captures alone decide it: at the end of a run, once they are whole."""

    def bound(self, too_much: bool) -> float | None:
        """The bound in ms that a slow machine exceeds where it is the reason; None: it cannot be."""
        return self.TOO_MUCH if too_much else self.TOO_LITTLE

    @property
    def quiet(self) -> float:
        """How many ms must pass before it holds that something is not there, which may be on its way."""
        return 0.0

    @property
    def takes_long(self) -> bool:
        """Whether it is only known to hold after a wait in vain."""
        return False

    @property
    def of_registrations(self) -> bool:
        """Whether it is decided by registration messages, or by what they leave at agents."""
        return False

    def check(self, where: Path, known: Known, fail: Fail) -> None:
        """Report what cannot be seen in a topology; names in its fields are compared with it elsewhere."""

    def phrase(self) -> str:
        """What is expected, as a line."""
        raise NotImplementedError

    def taps(self, facts: Facts) -> list[str]:
        """Where has to be captured, as NODE/NETWORK."""
        return []

    @classmethod
    def is_sight(cls, recorded: Any) -> bool:
        """Whether something could have been returned by `look` or `begin`."""
        try:
            _sight_of(cls).validate_python(recorded)
        except ValidationError:
            return False
        return True

    def begin(self, lab: Looker) -> Any:
        """Look at the lab at the beginning of the run; returns JSON. Raises `StepError`."""
        return None

    def look(self, lab: Looker) -> Any:
        """Look at the lab; returns JSON, None where captures and events decide. Raises `StepError`."""
        return None

    def judge(self, sight: Sight) -> Decision:
        """Whether it holds, from what was recorded. Raises `StepError` where that is unknown."""
        raise NotImplementedError


@cache
def _sight_of(word: type[Seen]) -> TypeAdapter[Any]:
    return TypeAdapter(word.SEEN)


class Count(Part):
    """How many: at least one of the keys says it."""

    exactly: int | None = Field(default=None, ge=0, description="This many, no more and no fewer")
    at_least: int | None = Field(default=None, ge=1, alias="at-least", description="This many or more")
    at_most: int | None = Field(default=None, ge=0, alias="at-most", description="This many or fewer")
    none: Literal[True] | None = Field(default=None, description="`true`: not a single one")

    @model_validator(mode="wrap")
    @classmethod
    def _counts(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        count = handler(data)
        given = [one for one in (count.exactly, count.at_least, count.at_most, count.none) if one is not None]
        range_given = count.at_least is not None and count.at_most is not None
        if len(given) != 1 and not (len(given) == 2 and range_given):
            raise Expected("one of exactly, at-least, at-most and none", "for example at-least: 1")
        return count

    @property
    def _exact(self) -> int | None:
        return 0 if self.none else self.exactly

    @property
    def lowest(self) -> int:
        """The smallest number that is expected."""
        return (self.at_least or 0) if self._exact is None else self._exact

    @property
    def highest(self) -> float:
        """The largest number that is expected."""
        return (inf if self.at_most is None else self.at_most) if self._exact is None else self._exact

    def allows(self, number: int) -> bool:
        """Whether a number is what is expected."""
        return self.lowest <= number <= self.highest

    def decides(self, least: int, most: float) -> bool | None:
        """Whether a number between these two is what is expected; None where that depends on which it is."""
        if most < self.lowest or self.highest < least:
            return False
        return True if self.lowest <= least and most <= self.highest else None

    @property
    def wanted(self) -> str:
        """The expectation in words: `at least 2`."""
        if self._exact is not None:
            return f"exactly {self._exact}" if self._exact else "none"
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        return " and ".join(f"{word} {number}" for word, number in bounds if number is not None)


class Counted(Count, Seen):
    """A number of something: slowness repeats what occurs, and does not cause what must not occur."""

    TOO_MUCH: ClassVar[float | None] = PATIENCE

    def bound(self, too_much: bool) -> float | None:
        """As of everything seen, but there is none for what must not be there at all."""
        return None if too_much and self.highest == 0 else super().bound(too_much)
