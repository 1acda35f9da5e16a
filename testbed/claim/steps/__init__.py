"""What a claim can do: the verbs of the vocabulary. Each class in this folder is one word.

Every step is bounded. What a step changed on purpose (IPsec taken down, a service stopped, a bypass
withdrawn) is put right at the end of the run, so that the next run finds the lab as it was. `testbed
vocabulary` prints the docstrings of the classes. Every file of this folder is read; `Step` has a key for each
word that is in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, create_model

from testbed.claim.action import Action
from testbed.claim.names import Fail, Known, check_part
from testbed.claim.words import OneWord, words_in
from testbed.document.marks import Path
from testbed.document.part import Part


class _Step(OneWord):
    """Exactly one thing to do."""

    KIND = Action
    EXPECTED = "exactly one step"

    @property
    def part(self) -> Action:
        """What is to be done."""
        action: Action = next(self._given())
        return action

    def phrase(self) -> str:
        """What is done, as a line: `move to airport, hotel, 2 times`."""
        return self.part.phrase()

    def check(self, where: Path, known: Known, fail: Fail) -> None:
        """Report every name that the topology does not have, and what cannot be done in it."""
        here = (*where, self.word)
        if isinstance(self.part, Part):
            check_part(self.part, here, known, fail)
        self.part.check(here, known, fail)


WORDS: tuple[type[Action], ...] = words_in(__name__, __path__, Action)
"""Every word, in the order of the vocabulary."""

if TYPE_CHECKING:
    Step = _Step
else:
    _keys = {
        # Not `register` as it is, which hides a method of classes.
        f"{one.word.replace('-', '_')}_": (
            one | None,
            Field(default=None, alias=one.word, description=one.title),
        )
        for one in WORDS
    }
    Step = create_model("Step", __base__=_Step, __doc__=_Step.__doc__, __module__=__name__, **_keys)
