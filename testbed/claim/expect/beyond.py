"""Messages of IKE and Mobile IP that use numbers which standards do not assign."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from testbed.claim.capture import AtTaps, marks
from testbed.claim.names import NodeName
from testbed.claim.sight import Decision, Looker, Sight
from testbed.document.values import Expected
from testbed.packet import ike, ike_numbers, mip_numbers
from testbed.packet.taps import Matched


def _assigns(kind: str, known: Collection[str]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in known:
            raise Expected(f"a document that assigns numbers of {kind}", f"known are {', '.join(known)}")
        return value

    return check


_MIP = tuple(dict.fromkeys((*mip_numbers.MESSAGES, *mip_numbers.EXTENSIONS)))
IkeDocument = Annotated[
    str,
    BeforeValidator(_assigns("IKE", ike_numbers.DOCUMENTS)),
    WithJsonSchema({"type": "string", "enum": list(ike_numbers.DOCUMENTS)}),
]
MipDocument = Annotated[
    str,
    BeforeValidator(_assigns("Mobile IP", _MIP)),
    WithJsonSchema({"type": "string", "enum": list(_MIP)}),
]


class _Beyond(AtTaps):
    """Numbers used beyond those that documents assign; each counts once."""

    def _decide(self, matches: list[Matched], looked: int, found: dict[str, None]) -> Decision:
        """Silence proves something only where messages were seen, in captures that are whole."""
        text = f"{', '.join(found) or 'nothing else'} in {looked} messages"
        broken = [match.tap for match in matches if not match.alive]
        if broken:
            return Decision(None, f"the capture at {', '.join(broken)} did not run to the end")
        held = self.decides(len(found), len(found) + sum(match.dropped for match in matches))
        if held is None:
            return Decision(None, f"{text}, but captures lost packets")
        if held and not looked and self.lowest == 0:
            return Decision(False, "not a single message was seen there")
        return Decision(held, text, len(found) > self.highest, marks(matches))


class IkeBeyond(_Beyond):
    """Exchange types, payload types and notify messages of IKE that none of the documents assigns.

    Captures show what is in clear, and all of IKE_SA_INIT; for what is encrypted, charon on `node` writes the
    payloads of each message to its log.
    """

    word = "ike-beyond"
    title = "IKE beyond documents"
    order = 45
    SEEN: ClassVar[Any] = list[str]
    BY_CAPTURES: ClassVar[bool] = False

    node: NodeName = Field(description="The node whose charon reads and writes the messages")
    documents: list[IkeDocument] = Field(
        min_length=1, description="The documents that assign numbers, such as RFC 7296"
    )

    def phrase(self) -> str:
        """What is expected, as a line."""
        where = f"at {', '.join(self.at)} and in the log of {self.node}"
        return f"numbers of IKE {where} beyond {', '.join(self.documents)}: {self.wanted}"

    def look(self, lab: Looker) -> Any:
        """The different lists of payloads that charon wrote to its log."""
        return ike_numbers.payload_lists(lab.printed(self.node))

    def judge(self, sight: Sight) -> Decision:
        """Compare each number with those that the documents assign."""
        matches = sight.wires.match_all(self.at, ike.IKE_FILTER)
        frames = [frame for match in matches for frame in match.frames]
        return self._decide(matches, *ike_numbers.beyond(self.documents, frames, sight.seen))


class MipBeyond(_Beyond):
    """Types of Mobile IP messages and of their extensions that none of the documents assigns.

    A message that cannot be read to its end counts as well.
    """

    word = "mip-beyond"
    title = "Mobile IP beyond documents"
    order = 46

    documents: list[MipDocument] = Field(
        min_length=1, description="The documents that assign numbers, such as RFC 5944"
    )

    @property
    def of_registrations(self) -> bool:
        """Most of them are registration messages."""
        return True

    def phrase(self) -> str:
        """What is expected, as a line."""
        return (
            f"numbers of Mobile IP at {', '.join(self.at)} beyond {', '.join(self.documents)}: {self.wanted}"
        )

    def judge(self, sight: Sight) -> Decision:
        """Compare each number with those that the documents assign."""
        matches = sight.wires.match_all(self.at, "udp port 434 or ip proto 4 or ip proto 47 or ip proto 55")
        frames = [frame for match in matches for frame in match.frames]
        return self._decide(matches, *mip_numbers.beyond(self.documents, frames))
