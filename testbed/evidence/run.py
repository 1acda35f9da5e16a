"""The files of one run: what happened, what was done, and what was seen when something was decided."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, JsonValue, NonNegativeInt

from testbed.evidence.health import Health
from testbed.evidence.record import Record


class EventRecord(Record):
    """One line of events.jsonl: what a node reported. Further keys are the event's own fields."""

    model_config = ConfigDict(extra="allow")

    node: str
    """The node."""
    name: str = Field(alias="event")
    """The event."""
    source: str
    """The service that reported it, or init."""
    wall: float
    """When it arrived, in s since the epoch, by the engine's clock."""
    monotonic: float | None = None
    """When it happened, in s of the clock that the nodes share."""

    @property
    def fields(self) -> dict[str, Any]:
        """The event's own fields."""
        return dict(self.model_extra or {})


class StepRecord(Record):
    """One line of steps.jsonl: a step as it was carried out."""

    step: str = ""
    """The word."""
    text: str
    """The step in words."""
    began: float
    """When, in s since the epoch."""
    ended: float
    """Until when, in s since the epoch."""
    result: str = ""
    """What came of it, in words."""


class Observation(Record):
    """One line of observations.jsonl: a look at the lab that decided something."""

    place: str
    """The path of the expectation in the run: expect/2, steps/4/expect, steps/3/wait-until; ending in
    /begin: what was seen before the first step."""
    word: str
    """The expectation's word."""
    began: float
    """When the look began, in s since the epoch."""
    ended: float
    """When it ended, in s since the epoch."""
    events: int = Field(ge=0)
    """How many of the events in events.jsonl had arrived by then."""
    captured: dict[str, NonNegativeInt] = Field(default_factory=dict)
    """Tap (NODE/NETWORK) → how many frames it had captured by then, where its capture was running; empty: the
    whole captures count."""
    logs_ended: list[str] = Field(default_factory=list)
    """Nodes whose event log had ended: what they reported afterwards, if anything, is not known."""
    marked: bool = False
    """Whether a probe or session had been started, whose payload would show up in clear text."""
    seen: JsonValue = None
    """What the lab answered; null where captures and events alone decide."""
    error: str | None = None
    """Why the lab could not be asked."""


class CapturedTap(Record):
    """How the capture at one tap went: whether its silence means anything."""

    file: str
    """The capture, relative to the run's folder."""
    alive: bool
    """Whether it ran from the first step to the end."""
    dropped: int = Field(default=0, ge=0)
    """Packets that the kernel could not hand over to it; taps of one mobile node share the number."""
    frames: int | None = Field(default=None, ge=0)
    """How many frames its file has, so that a packet that is taken out is missed."""


class CaptureRecord(Record):
    """captures.json."""

    taps: dict[str, CapturedTap]
    """Tap (NODE/NETWORK) → how its capture went."""


class RunRecord(Record):
    """run.json: what else is needed to decide a run again."""

    claim: str
    """The claim's name."""
    run: str = Field(pattern=r"^(main|control)(-\d+)?$")
    """Which of its runs; main-2 is the second of several."""
    lab: str
    """The lab it took place in."""
    recorded: str = ""
    """The folder with its captures, events and steps, relative to the evidence folder, where it shares them
    with the run of another claim; empty: its own."""
    topology: str = ""
    """The file of the lab's topology, relative to the evidence folder."""
    began: float
    """When it began, in s since the epoch."""
    ended: float
    """When it ended, in s since the epoch."""
    health: Health | None = None
    """What the machine was like; null where that is not known."""
    health_error: str | None = None
    """Why it is not known."""
    error: str | None = None
    """Why a step or an observation could not be carried out."""
    notes: list[str] = Field(default_factory=list)
    """What a reader has to know, such as what was emulated."""
