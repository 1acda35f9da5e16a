"""What a claim can expect to be seen: the nouns of the vocabulary. Each class in this folder is one word.

An expectation is decided by what was observed, never by configuration: packets captured at a tap, the state a
daemon reports, traffic that arrives or does not. `testbed vocabulary` prints the docstrings of the classes.
Every file of this folder is read; `Expectation` has a key for each word that is in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, create_model

from testbed.claim.names import Fail, Known, check_part
from testbed.claim.seen import Seen
from testbed.claim.words import OneWord, words_in
from testbed.document.marks import Path
from testbed.document.values import Duration, format_duration


class _Expectation(OneWord):
    """Exactly one thing to be seen, and how long it may take to show (`within`)."""

    KIND = Seen
    EXPECTED = "exactly one expectation, and beside it only `within`"

    if TYPE_CHECKING:
        within: float | None

    @property
    def part(self) -> Seen:
        """What is expected."""
        seen: Seen = next(self._given())
        return seen

    def phrase(self) -> str:
        """What is expected, as a line: `a binding at ha, within 3s`."""
        text = self.part.phrase()
        return text + (f", within {format_duration(self.within)}" if self.within else "")

    def bound(self, too_much: bool) -> float | None:
        """The shortest bound in ms that a slow machine may exceed, so that it does not hold; None: never."""
        bound = self.part.bound(too_much)
        return min(bound, self.within) if bound is not None and self.within else bound

    def check(self, where: Path, known: Known, fail: Fail) -> None:
        """Report every name that the topology does not have, and what cannot be seen in it."""
        here = (*where, self.word)
        check_part(self.part, here, known, fail)
        self.part.check(here, known, fail)


WORDS: tuple[type[Seen], ...] = words_in(__name__, __path__, Seen)
"""Every word, in the order of the vocabulary."""

if TYPE_CHECKING:
    Expectation = _Expectation
else:
    _keys = {
        one.word.replace("-", "_"): (
            one | None,
            Field(default=None, alias=one.word, description=one.title),
        )
        for one in WORDS
    }
    _keys["within"] = (
        Duration | None,
        Field(
            default=None,
            description="How long to wait for it before it counts as not seen (default: it has to hold now)",
        ),
    )
    Expectation = create_model(
        "Expectation", __base__=_Expectation, __doc__=_Expectation.__doc__, __module__=__name__, **_keys
    )
