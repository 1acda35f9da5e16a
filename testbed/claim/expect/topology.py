"""Whether the topology of a run passes the topology check with changes to it."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from typing_extensions import TypedDict

from testbed.claim.names import Changes
from testbed.claim.seen import Seen
from testbed.claim.sight import Decision, Looker, Sight


class _Refusal(TypedDict):
    refusal: str


class _Changed(Seen):
    """The topology of the run, loaded with changes."""

    TOO_LITTLE: ClassVar[float | None] = None
    SEEN: ClassVar[Any] = _Refusal

    set: Changes = Field(min_length=1, description="The changes, one or a list, as `--set` takes them")

    def look(self, lab: Looker) -> Any:
        """Load it with them."""
        return {"refusal": lab.refusal(self.set)}

    @staticmethod
    def _text(refusal: str) -> str:
        return f"refused: {refusal}" if refusal else "accepted"


class Refused(_Changed):
    """The topology of the run is refused by the topology check when it is loaded with these changes."""

    word = "refused"
    title = "The topology, changed, is refused"
    order = 130

    because: str = Field(min_length=1, description="A text in the message that refuses it")

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"the topology with {', '.join(self.set)} is refused because {self.because!r}"

    def judge(self, sight: Sight) -> Decision:
        """Find the reason in the refusal."""
        refusal = sight.seen["refusal"]
        return Decision(self.because in refusal, self._text(refusal))


class Accepted(_Changed):
    """The topology of the run passes the topology check when it is loaded with these changes."""

    word = "accepted"
    title = "The topology, changed, is accepted"
    order = 140

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"the topology with {', '.join(self.set)} is accepted"

    def judge(self, sight: Sight) -> Decision:
        """There was no refusal."""
        refusal = sight.seen["refusal"]
        return Decision(not refusal, self._text(refusal))
