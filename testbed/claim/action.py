"""What all steps share, and what they work with: the running lab, as a step acts on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, Field

from testbed.agreed import ROAM
from testbed.claim.expect import Expectation
from testbed.claim.names import Fail, Known, NodeName, Short
from testbed.claim.probe import ProbeReport
from testbed.claim.sight import Decision, Done, Facts, Lab, Reported
from testbed.document.marks import Path
from testbed.document.values import format_duration
from testbed.errors import did_you_mean


class Actor(Lab, Protocol):
    """The lab of a run, for its steps. Every method raises `StepError` where something cannot be done."""

    def shell(self, node: str, script: str) -> Done:
        """Run a shell script in a node, which has to exit 0."""

    def control(self, node: str, service: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Ask a daemon over its control socket; returns its answer."""

    def settle(self, node: str, request: Mapping[str, Any], manager: str = ROAM) -> Mapping[str, Any]:
        """Ask a connection manager for a change and wait until it has settled; returns what it reports."""

    def set_service(self, node: str, name: str, state: str) -> None:
        """Stop a service (`down`), or start it (`up`) and wait until it is ready."""

    # What nodes report

    def mark(self) -> int:
        """A place in the log of all nodes: now."""

    def since(self, mark: int) -> Sequence[Reported]:
        """What was reported after a place in the log."""

    def wait(self, mark: int, wanted: Callable[[Reported], bool], seconds: float) -> Reported | None:
        """The first event after a place in the log that is wanted; None if there is none in time."""

    def observe(self, expectation: Expectation, within: float | None = None) -> Decision:
        """Look until an expectation holds, at most for its own bound or `within` (ms). It is recorded."""

    def captured(self, tap: str, expression: str) -> Sequence[bytes]:
        """The packets that a pcap filter matches among those captured so far at a tap of the run's.

        They are whole, from the IP header on.
        """

    # Traffic

    def start_session(self, source: str, address: str) -> None:
        """Start the TCP session from the mobile node, in the place of another; ended with the run."""

    def stop_session(self) -> None:
        """End the TCP session, if there is one."""

    def start_probe(self, source: str, correspondent: str, address: str, every: float) -> None:
        """Start the numbered packets, so many ms apart; ended with the run."""

    def stop_probe(self) -> ProbeReport | None:
        """End the numbered packets; returns their report, None where none were started."""

    # The run

    def note(self, text: str) -> None:
        """Write something into the evidence that a reader has to know of this run."""

    def at_end(self, what: str, undo: Callable[[], object], left: Callable[[], object] | None = None) -> None:
        """Have a change put right at the end of the run, the last change first.

        `left` is done in place of it where another step leaves the change behind (`leave`).
        """

    def is_changed(self, what: str) -> bool:
        """Whether there is such a change, to be put right at the end of the run."""

    def leave(self, what: str) -> None:
        """Leave such changes behind: they are not put right at the end any more."""

    def decide(self) -> None:
        """End the run after this step: it is decided."""


class Action(BaseModel):
    """A step: something to be done. Its docstring is the meaning, its fields are the keys.

    A class in a file of `testbed/claim/steps/` that has a `word` is part of the vocabulary; nothing else has
    to know of it.
    """

    word: ClassVar[str]
    """What is written in a claim, such as `move`."""
    title: ClassVar[str]
    """What it is, in one line."""
    order: ClassVar[int] = 1000
    """Its place in the vocabulary: the lowest comes first."""

    def check(self, where: Path, known: Known, fail: Fail) -> None:
        """Report what cannot be done in a topology; names in its fields are compared with it elsewhere."""

    def phrase(self) -> str:
        """What is done, as a line: the word, and the keys that are not as by default."""
        given = self.model_dump(by_alias=True, exclude_defaults=True, mode="json")
        given |= {key: format_duration(given[key]) for key in ("within", "every") if key in given}
        if len(given) == 1:
            value = next(iter(given.values()))
            return f"{self.word} {', '.join(value) if isinstance(value, list) else value}"
        return f"{self.word} " + ", ".join(f"{key} {value}" for key, value in given.items())

    def condition(self) -> str | None:
        """On what condition this step makes its run inconclusive, as the end of a sentence."""
        return None

    @property
    def expectation(self) -> Expectation | None:
        """What it looks for, if that is what it does."""
        return None

    def taps(self, facts: Facts) -> list[str]:
        """Where has to be captured, as NODE/NETWORK: wherever it brings a mobile node."""
        return []

    def act(self, lab: Actor) -> str:
        """Do it; returns what came of it. Raises `StepError`."""
        raise NotImplementedError


class OfMobileNode(Short, Action):
    """What a mobile node does, the topology's first unless it is named."""

    node: NodeName | None = Field(default=None, description="The mobile node (default: the topology's first)")

    def who(self, facts: Facts) -> str:
        """The mobile node."""
        return self.node or facts.mobile_nodes[0]

    def check(self, where: Path, known: Known, fail: Fail) -> None:
        """The node is a mobile node, and attaches to the networks of this step."""
        mobile = {name: node.attaches for name, node in known.nodes.items() if node.attaches}
        who = self.node or next(iter(mobile), None)
        if who in mobile:
            self.check_attachable(who, mobile[who], where, fail)
        elif who in known.nodes:
            fail((*where, "node"), f"{who} is no mobile node", did_you_mean(str(who), mobile))

    def check_attachable(self, who: str, networks: Sequence[str], where: Path, fail: Fail) -> None:
        """Report networks of this step to which the mobile node does not attach."""
