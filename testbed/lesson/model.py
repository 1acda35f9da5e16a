"""The model of `lesson.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from testbed.claim.expect import Expectation
from testbed.claim.names import NodeName, PcapFilter, Tap
from testbed.claim.steps import Step
from testbed.document.part import Part
from testbed.document.values import Expected, Name
from testbed.errors import did_you_mean
from testbed.lesson.fields import FIELDS

LAB = "LAB"
"""What stands for the lab's name in texts and commands."""
COMMANDS = ("exec", "move", "set", "restart", "reset", "fail", "heal")
"""What a solution may call: commands of testbed that act on a running lab."""


def _expression(value: Any) -> Any:
    if isinstance(value, str):
        try:
            re.compile(value)
        except re.error as error:
            raise Expected(f"a regular expression ({error.msg})") from error
    return value


def _field(value: Any) -> Any:
    if value not in FIELDS:
        raise Expected("a field of a packet", did_you_mean(str(value), FIELDS))
    return value


Expression = Annotated[str, BeforeValidator(_expression), Field(min_length=1)]
"""A regular expression, as Python has them."""


class OneOf(Part):
    """A part with exactly one of its `WAYS`."""

    WAYS: ClassVar[tuple[str, ...]]

    @model_validator(mode="wrap")
    @classmethod
    def _one(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(data)
        if sum(getattr(made, way) is not None for way in cls.WAYS) != 1:
            raise Expected(f"exactly one of {', '.join(cls.WAYS)}")
        return made


class Reading(Part):
    """Something to be read in the lab, after some steps."""

    steps: list[Step] = Field(default_factory=list, description="What is done before, one after the other")


class EventField(Reading):
    """A field of the last such event since the task began."""

    node: NodeName = Field(description="The node that reported it")
    name: str = Field(min_length=1, description="The event's name")
    field: str = Field(min_length=1, description="The field; with dots into what it holds")


class StateField(Reading):
    """A field of what a daemon says of itself."""

    node: NodeName = Field(description="The node")
    service: str = Field(min_length=1, description="The daemon's control socket, such as home-agent")
    field: str = Field(
        min_length=1, description="The field; with dots into what it holds: bindings.0.lifetime"
    )


class PacketCount(Reading):
    """The number of packets captured while the steps are done."""

    at: Tap = Field(description="Where they are captured: NODE/NETWORK")
    filter: PcapFilter = Field(description="Which packets: a pcap filter")


class PacketField(PacketCount):
    """A field of a packet captured while the steps are done."""

    field: Annotated[str, BeforeValidator(_field)] = Field(description="The field")
    which: Literal["first", "last"] = Field(default="last", description="Of several packets, which")


class Output(Reading):
    """What a command in a node prints."""

    node: NodeName = Field(description="The node")
    command: str = Field(min_length=1, description="A line for its shell")
    match: Expression | None = Field(
        default=None, description="A regular expression whose first group is meant (default: all of it)"
    )


class From(OneOf):
    """Where the right answer comes from."""

    WAYS = ("event", "state", "packet", "count", "output", "value")

    event: EventField | None = Field(default=None, description="A field of an event")
    state: StateField | None = Field(default=None, description="A field of a daemon's state")
    packet: PacketField | None = Field(default=None, description="A field of a packet")
    count: PacketCount | None = Field(default=None, description="A number of packets")
    output: Output | None = Field(default=None, description="What a command prints")
    value: str | int | float | None = Field(
        default=None, description="The answer itself, where no lab can say it"
    )

    @property
    def reading(self) -> Reading | None:
        """What is read in the lab; None where the answer is written here."""
        return self.event or self.state or self.packet or self.count or self.output


def _tolerance(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?%", value):
        return value
    raise Expected("how far a number may be off: `20%`, or `5` in the number's own unit")


Tolerance = Annotated[str | float, BeforeValidator(_tolerance)]


class Answer(Part):
    """A question, which the learner answers with what was measured or read in the lab."""

    question: str = Field(min_length=1, description="The question, as a sentence")
    kind: Literal["number", "node", "network", "address", "word"] = Field(
        alias="is", description="What the answer is"
    )
    unit: str | None = Field(default=None, description="Of a number: its unit")
    tolerance: Tolerance = Field(
        default=0.0, description="Of a number: how far it may be off, such as 20% (default: not at all)"
    )
    choices: list[str] = Field(
        default_factory=list, description="Of a word: what it may be, shown with the question"
    )
    source: From = Field(alias="from", description="Where the right answer comes from")


class Difference(OneOf):
    """Something of a node that differs from what was rendered."""

    WAYS = ("file", "rules")

    node: NodeName = Field(description="The node")
    file: str | None = Field(default=None, description="A file of the node that testbed rendered")
    rules: Literal["routes", "rules", "nftables"] | None = Field(
        default=None, description="Its routes, its routing policy rules, or its rules of nftables"
    )
    line: Expression | None = Field(
        default=None, description="A regular expression that a line matches that was not there"
    )
    gone: Expression | None = Field(
        default=None, description="A regular expression that a line matches that is not there any more"
    )


class Trial(Part):
    """Steps in the learner's lab, and what must be seen meanwhile or then."""

    steps: list[Step] = Field(min_length=1, description="What is done, one after the other")
    expect: list[Expectation] = Field(min_length=1, description="What must be seen: all of it")


_Several = Annotated[list[Expectation], Field(min_length=1)]
_SEVERAL: TypeAdapter[list[Expectation]] = TypeAdapter(_Several)


def _one_or_several(value: Any, _: ValidatorFunctionWrapHandler) -> Expectation | list[Expectation]:
    """Judged as what was written: a union would report the errors of both."""
    if isinstance(value, list):
        return _SEVERAL.validate_python(value)
    return Expectation.model_validate(value)


class Check(OneOf):
    """What must hold for a task to be done, and what is said where it does not."""

    WAYS = ("expect", "answer", "changed", "run")

    expect: Annotated[Expectation | _Several, WrapValidator(_one_or_several)] | None = Field(
        default=None, description="An expectation of the vocabulary, or several: they hold now"
    )
    answer: Answer | None = Field(default=None, description="A question that the learner answers")
    changed: Difference | None = Field(
        default=None, description="Something that the learner changed in a node"
    )
    run: Trial | None = Field(default=None, description="Steps, and what must be seen")
    missing: str = Field(
        min_length=1,
        description="What is still missing, in one sentence that teaches and does not give it away",
    )

    @property
    def expectations(self) -> list[Expectation]:
        """The expectations that hold now."""
        written = self.expect or []
        return written if isinstance(written, list) else [written]


def _command(value: str) -> str:
    words = value.split()
    if words[:1] != ["testbed"] or len(words) < 3 or words[1] not in COMMANDS or words[2] != LAB:
        raise Expected(
            f"a command on the lab: `testbed {'|'.join(COMMANDS)} {LAB} …`", f"testbed move {LAB} mn hotspot"
        )
    return value


def _command_or_step(value: Any, _: ValidatorFunctionWrapHandler) -> Step | str:
    return _command(value) if isinstance(value, str) else Step.model_validate(value)


Deed = Annotated[Step | str, WrapValidator(_command_or_step)]
"""A command of testbed, or a step of the vocabulary."""


class Task(Part):
    """One thing to do or to find out."""

    title: str = Field(min_length=1, description="What is to be done, in a few words")
    text: str = Field(min_length=1, description="What to predict, to do and to look at, in Markdown")
    checks: list[Check] = Field(min_length=1, description="What must hold for it to be done: all of it")
    hints: list[str] = Field(min_length=1, description="Hints, each saying more than the one before")
    solution: list[Deed] = Field(
        default_factory=list, description="Commands or steps that do it; an answer comes from its `from`"
    )
    explain: str = Field(min_length=1, description="Why it came out like that, shown once it is done")

    @property
    def answer(self) -> Answer | None:
        """The question of this task, of which there is one at most."""
        return next((check.answer for check in self.checks if check.answer), None)


class Lesson(Part):
    """A lesson, as lesson.yaml has it."""

    number: int = Field(ge=1, description="Its place in the order of lessons")
    title: str = Field(min_length=1, description="What it is about")
    goal: str = Field(min_length=1, description="What the learner can do afterwards, in one sentence")
    minutes: int = Field(ge=1, le=240, description="How long it takes")
    section: str = Field(min_length=1, description="The section of the RFC that it teaches")
    topology: str = Field(min_length=1, description="A built-in topology, or a path beside this file")
    options: dict[Name, str | int | float | bool] = Field(
        default_factory=dict, description="Options of the topology, where not the default"
    )
    sets: list[str] = Field(
        default_factory=list, description="Changes to the topology, as `--set` takes them"
    )
    start: list[Step] = Field(
        default_factory=list, description="Steps that make the starting state; what they change stays"
    )
    tasks: list[Task] = Field(min_length=1, description="The tasks, one after the other")
    learned: str = Field(min_length=1, description="What the learner has seen, shown at the end")

    def steps(self) -> Iterator[tuple[tuple[str | int, ...], Step, bool]]:
        """Every step with its path, and whether it belongs to a run that ends."""
        for number, step in enumerate(self.start):
            yield ("start", number), step, False
        for index, task in enumerate(self.tasks):
            here = ("tasks", index)
            for number, deed in enumerate(task.solution):
                if isinstance(deed, Step):
                    yield (*here, "solution", number), deed, False
            for at, check in enumerate(task.checks):
                if check.run:
                    for number, step in enumerate(check.run.steps):
                        yield (*here, "checks", at, "run", "steps", number), step, True
                if check.answer and (reading := check.answer.source.reading):
                    way = next(way for way in From.WAYS if getattr(check.answer.source, way) is reading)
                    for number, step in enumerate(reading.steps):
                        yield (*here, "checks", at, "answer", "from", way, "steps", number), step, True
