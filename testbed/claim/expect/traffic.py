"""The traffic that runs while the mobile node moves: the numbered probe and the TCP session."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from testbed.claim.names import Short
from testbed.claim.probe import ProbeReport, ProbeRows
from testbed.claim.seen import PATIENCE, Count, Seen
from testbed.claim.sight import Decision, Looker, Sight
from testbed.document.values import Duration, format_duration

CHECK_WITHIN: Final = 8.0
"""Seconds in which data of a session has to come back where nothing else is said."""


class ProbeResult(Seen):
    """What the sequence-numbered probe went through, both ways, between its start and now.

    An outage runs from the last packet that came back before a gap to the first one after it.
    """

    word = "probe"
    title = "The running probe"
    order = 150
    SEEN: ClassVar[Any] = ProbeRows | None

    lost: Count | None = Field(default=None, description="How many packets did not come back")
    outage: Duration | None = Field(default=None, description="No single outage was longer than this")
    silent: Duration | None = Field(default=None, description="There was an outage at least this long")

    def bound(self, too_much: bool) -> float | None:
        """The time it is measured against is a bound too. Slowness makes outages longer, never shorter."""
        if too_much:
            return None
        return min(one for one in (PATIENCE, self.outage) if one is not None)

    def phrase(self) -> str:
        """What is expected, as a line."""
        wanted = [f"lost {self.lost.wanted}"] if self.lost else []
        wanted += [f"no outage over {format_duration(self.outage)}"] if self.outage else []
        wanted += [f"an outage of {format_duration(self.silent)} or more"] if self.silent else []
        return "probe: " + (", ".join(wanted) or "reported")

    def look(self, lab: Looker) -> Any:
        """End it and take what both ends report."""
        report = lab.probe()
        return report.to_json() if report else None

    def judge(self, sight: Sight) -> Decision:
        """Compare its losses and outages."""
        if sight.seen is None:
            return Decision(None, "no probe was started")
        report = ProbeReport.from_json(sight.seen)
        if not report.sent:
            return Decision(None, "the probe sent nothing")
        longest = report.longest()
        held = (
            (self.lost is None or self.lost.allows(report.lost))
            and (self.outage is None or longest <= self.outage)
            and (self.silent is None or longest >= self.silent)
        )
        return Decision(held, str(report), self.silent is not None and longest < self.silent)


class _Alive(TypedDict):
    within: float
    alive: Literal[True]
    after: float
    echoed: NotRequired[int]


class _Broken(TypedDict):
    within: float
    alive: NotRequired[Literal[False]]
    reason: NotRequired[str | None]
    echoed: NotRequired[int]


class SessionState(Short, Seen):
    """Whether the TCP session lives: data written now comes back within the bound (`within`, default 8s)."""

    word = "session"
    title = "The running TCP session"
    order = 160
    SEEN: ClassVar[Any] = _Alive | _Broken | None

    SHORT = "state"
    state: Literal["alive", "broken"] = Field(description="Whether data comes back")

    @property
    def takes_long(self) -> bool:
        """A broken session answers nothing until its bound has passed."""
        return self.state == "broken"

    def phrase(self) -> str:
        """What is expected, as a line."""
        return f"the TCP session is {self.state}"

    def look(self, lab: Looker) -> Any:
        """Send data and wait for it to come back."""
        within = lab.bound / 1000 or CHECK_WITHIN
        answer = lab.session(within)
        return None if answer is None else {"within": within, **answer}

    def judge(self, sight: Sight) -> Decision:
        """Whether it came back."""
        answer = sight.seen
        if answer is None:
            return Decision(None, "no session was started")
        alive = bool(answer.get("alive"))
        if alive:
            text = f"alive: new data came back after {answer['after'] * 1000:.0f} ms"
        else:
            nothing = f"nothing came back in {answer['within']:g} s"
            text = f"broken: {answer.get('reason') or nothing}"
        text += f" ({answer.get('echoed', 0)} bytes in all)"
        return Decision(alive == (self.state == "alive"), text, alive)
