"""Expectations between other steps: waited for, or judged."""

from __future__ import annotations

from typing import Final

from pydantic import ConfigDict, RootModel

from testbed.claim.action import Action, Actor
from testbed.claim.expect import Expectation
from testbed.claim.names import Fail, Known
from testbed.document.marks import Path
from testbed.errors import StepError

WAIT_WITHIN: Final = 5000.0
"""Milliseconds a `wait-until` takes at most unless it says."""
_HELD: Final = {True: "yes", False: "no", None: "undecided"}


class _OfExpectation(RootModel[Expectation], Action):
    """A step that is written as an expectation."""

    model_config = ConfigDict(frozen=True, strict=True)

    @property
    def expectation(self) -> Expectation:
        """What it looks for."""
        return self.root

    def check(self, where: Path, known: Known, fail: Fail) -> None:
        """As anywhere in the run."""
        self.root.check(where, known, fail)


class WaitUntil(_OfExpectation):
    """Wait until an expectation holds; the run is inconclusive if it does not."""

    word = "wait-until"
    title = (
        "Wait until an expectation holds; the run is inconclusive if it does not `within` its "
        "time (default 5s)"
    )
    order = 130

    def phrase(self) -> str:
        """What is waited for, as a line."""
        return f"wait until {self.root.phrase()}"

    def condition(self) -> str:
        """Where it waits in vain."""
        return f"this does not come about: {self.root.phrase()}"

    def act(self, lab: Actor) -> str:
        """Look until it holds."""
        decision = lab.observe(self.root, WAIT_WITHIN)
        if not decision.held:
            raise StepError(f"waited in vain: {self.root.phrase()}: {decision.observed}")
        return decision.observed


class Expect(_OfExpectation):
    """An expectation judged at this point of the run; if it does not hold, the run ends here."""

    word = "expect"
    title = "An expectation judged at this point of the run; if it does not hold, the run ends here"
    order = 140

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"expect {self.root.phrase()}"

    def act(self, lab: Actor) -> str:
        """Look; what would follow builds upon it, so that the run is decided where it does not hold."""
        decision = lab.observe(self.root)
        if decision.held is not True:
            lab.decide()
        return f"{_HELD[decision.held]}: {decision.observed}"
