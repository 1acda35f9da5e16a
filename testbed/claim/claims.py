"""Claims: what a document says, how to try it, and what must be seen. Part of a topology file.

A claim has a run and a control. The run tries what the text says; the control is the nearby run in which the
opposite must come out, so that the machinery is known to work and the check is known to be able to fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from testbed.claim.expect import Expectation
from testbed.claim.names import Fail, Known
from testbed.claim.sight import Machine
from testbed.claim.steps import Step
from testbed.document.marks import Path
from testbed.document.part import Attachment, Part, Stack
from testbed.document.values import Expected, Label, Name
from testbed.errors import did_you_mean
from testbed.evidence.verdicts import KINDS, Kind, Shows


def _claim_id(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,59}", value):
        return value
    raise Expected("a claim's id of lower-case letters, digits, dots and hyphens, at most 60 characters")


ClaimId = Annotated[
    str,
    BeforeValidator(_claim_id),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9][a-z0-9.-]*$", "maxLength": 60}),
]


def _guideline_id(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"\d+\.\d+", value):
        return value
    hint = "write it in quotes: without them 5.10 is the number 5.1" if isinstance(value, float) else None
    raise Expected('the number of a section in quotes, such as "5.6"', hint)


GuidelineId = Annotated[
    str,
    BeforeValidator(_guideline_id),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+\\.[0-9]+$", "examples": ["5.6"]}),
]


def _guidelines(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Guidelines = Annotated[
    list[GuidelineId],
    BeforeValidator(_guidelines),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}, "examples": ["5.6"]}),
]


class Guideline(Part):
    """A guideline by which solutions are judged: what claims with its number decide."""

    title: str = Field(min_length=1, description="Its title in the document")
    level: Literal["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"] = Field(
        description="The strongest word of the document on it"
    )
    beside: Label | None = Field(
        default=None,
        description="The solution that others are compared with: its failures are not held against them",
    )


class Experiment(Part):
    """One run: the lab it needs, what is done there, and what must then be seen.

    It begins with the mobile node registered nowhere and the agents' lists empty; to which link the mobile
    node is attached is for the first steps to say. Runs that need the same lab (topology, options, sets)
    share it.
    """

    topology: str | None = Field(
        default=None, description="Another topology than the claim's own: a built-in name or a path"
    )
    options: dict[Name, str | int | float | bool] = Field(
        default_factory=dict, description="Options of the topology, where not the default"
    )
    sets: list[str] = Field(
        default_factory=list, description="Changes to the topology, as `--set` takes them"
    )
    steps: list[Step] = Field(min_length=1, description="What is done, one after the other")
    expect: list[Expectation] = Field(min_length=1, description="What must be seen: all of it")

    def expectations(self) -> Iterator[tuple[tuple[str | int, ...], Expectation]]:
        """Every expectation, waits and mid-run ones included, with its path in the run."""
        for index, step in enumerate(self.steps):
            if expectation := step.part.expectation:
                yield ("steps", index, step.word), expectation
        for index, expectation in enumerate(self.expect):
            yield ("expect", index), expectation


def place(path: Path) -> str:
    """The place of an expectation in its run as text: `steps/3/wait-until`."""
    return "/".join(map(str, path))


class Trial(Experiment):
    """A run that several claims share; each of them may add what it lacks."""

    steps: list[Step] = Field(default_factory=list, description="What is done, one after the other")
    expect: list[Expectation] = Field(default_factory=list, description="What must be seen: all of it")


class TrialUse(Trial):
    """A trial, with keys of the run's own in place of the trial's; `expect` and `sets` are added to them."""

    trial: Label = Field(description="The trial, one of the topology's `trials`")


_Several = Annotated[list[Experiment], Field(min_length=1)]
_SEVERAL: TypeAdapter[list[Experiment]] = TypeAdapter(_Several)


def _one_or_several(value: Any, _: ValidatorFunctionWrapHandler) -> Experiment | list[Experiment]:
    """Judged as what was written: a union would report the errors of both."""
    if isinstance(value, list):
        return _SEVERAL.validate_python(value)
    return Experiment.model_validate(value)


Runs = Annotated[Experiment | _Several, WrapValidator(_one_or_several)]
"""One experiment, or several that must all hold."""


class Spoken(Part):
    """The combination of stack and attachment that a claim speaks of."""

    stack: Stack = Field(description="The order of Mobile IPv4 and IPsec on the mobile node")
    attachment: Attachment | None = Field(
        default=None, description="Whose care-of address; none: it does not matter"
    )


def _roles(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class Needs(Part):
    """What a claim cannot be tried without. Where it is lacking, the claim is left out."""

    kernel: Literal["esp"] | None = Field(
        default=None, description="What the kernel of the engine's machine must have itself: ESP"
    )
    roles: Annotated[
        list[Name],
        BeforeValidator(_roles),
        WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
    ] = Field(
        default_factory=list,
        description="Roles that nodes of the topology must have: one that acts as it will not do",
    )

    def lacking(self, nodes: Mapping[str, Machine]) -> list[str]:
        """The roles that no node has."""
        having = {role for node in nodes.values() for role in node.roles}
        return [role for role in self.roles if role not in having]

    def __str__(self) -> str:
        words = [f"a {' and a '.join(self.roles)}"] if self.roles else []
        return " and ".join([*words, *(["ESP in the kernel"] if self.kernel else [])])


class Claim(Part):
    """A sentence of a document, and how to decide whether it holds."""

    says: str = Field(min_length=1, description="The sentence in one line, in our own words")
    source: str = Field(min_length=1, description="Where it stands: section and figure")
    configuration: Spoken | None = Field(default=None, description="What the sentence speaks of")
    shows: Shows | None = Field(
        default=None,
        description="What of that configuration it shows, once reproduced: it works, fails or costs",
    )
    problem: Label | None = Field(
        default=None, description="The functional problem that it shows, as the document counts them"
    )
    drawback: Label | None = Field(
        default=None, description="A cost that the RFC mentions but does not call a problem"
    )
    guideline: Guidelines = Field(
        default_factory=list,
        description="The guideline, or several, that it helps to decide (`solutions`): with `shows: works` "
        "what a solution has to do to follow it, with `shows: costs` all that it has to do to follow it at a "
        "cost",
    )
    instead: ClaimId | None = Field(
        default=None,
        description="With `shows: costs`: the claim in whose place this one decides, where that one is "
        "refuted; all others with `shows: works` have to hold",
    )
    needs: Needs | None = Field(
        default=None,
        description="What the machine and the topology must have; without it the claim is not tried, and "
        "others of its guideline decide",
    )
    run: Runs = Field(description="Tries what the sentence says; a list: all of them must hold")
    control: Runs = Field(description="The nearby run in which the opposite must come out")

    def experiments(self, kind: Kind) -> Iterator[tuple[Path, Experiment]]:
        """The experiments of the run or the control, with their paths in the claim."""
        written = self.run if kind == "run" else self.control
        if isinstance(written, Experiment):
            yield (kind,), written
        else:
            yield from (((kind, index), one) for index, one in enumerate(written))


def check_claims(topology: Known, fail: Fail) -> None:
    """Report every name in the claims of a topology that it does not have, and what they cannot show.

    A run in another topology, or with a number for an option, is checked by `check_names` when its own is
    loaded: the number may be how often a block is repeated, whose nodes are there only then.
    """
    _check_deployed(topology, fail)
    for name, claim in topology.claims.items():
        _check_shown(claim, ("claims", name), fail)
        _check_guideline(claim, ("claims", name), topology, fail)
        for kind in KINDS:
            for path, run in claim.experiments(kind):
                counts = any(type(value) is int for value in run.options.values())
                if run.topology is None and not counts:
                    check_names(run, ("claims", name, *path), topology, fail)


def _check_deployed(topology: Known, fail: Fail) -> None:
    tried = list(dict.fromkeys(one.stack for one in topology.configurations))
    for index, stack in enumerate(topology.deployed):
        if stack in topology.deployed[:index]:
            fail(("deployed", index), f"{stack} is named twice")
        elif stack not in tried:
            fail(
                ("deployed", index),
                f"{stack} is in none of the configurations",
                f"those have {', '.join(tried)}" if tried else "write the configurations that are tried",
            )


def _check_shown(claim: Claim, path: Path, fail: Fail) -> None:
    """A problem or drawback is of something that fails or costs, in a configuration."""
    for key, name in (("problem", claim.problem), ("drawback", claim.drawback)):
        if name is None:
            continue
        if claim.shows not in ("fails", "costs"):
            got = f"`{claim.shows}`" if claim.shows else "no `shows`"
            fail((*path, key), f"`{key}` requires `shows: fails` or `costs`, got {got}", "shows: costs")
        if key == "problem" and claim.drawback:
            fail(
                (*path, "drawback"),
                "a claim has a `problem` or a `drawback`, not both",
                "the RFC calls a cost a problem or not",
            )
        if key == "problem" and claim.configuration is None:
            fail((*path, key), "`problem` requires a `configuration`", "configuration: {stack: …}")


def _check_guideline(claim: Claim, path: Path, known: Known, fail: Fail) -> None:
    """A claim on a guideline says which of its marks it is for."""
    for one in claim.guideline:
        if one not in known.guidelines:
            hint = did_you_mean(one, known.guidelines) if known.guidelines else "write `guidelines`"
            fail((*path, "guideline"), f"no guideline has the number {one}", hint)
    if claim.guideline and claim.shows not in ("works", "costs"):
        got = f"`{claim.shows}`" if claim.shows else "no `shows`"
        fail(
            (*path, "guideline"), f"`guideline` requires `shows: works` or `costs`, got {got}", "shows: works"
        )
    if claim.instead is None:
        return
    other = known.claims.get(claim.instead)
    if other is None:
        fail(
            (*path, "instead"),
            f"no claim is called {claim.instead}",
            did_you_mean(claim.instead, known.claims),
        )
    elif claim.shows != "costs" or other.shows != "works" or not {*claim.guideline} & {*other.guideline}:
        fail(
            (*path, "instead"),
            "`instead` requires `shows: costs`, and a claim of the same guideline with `shows: works`",
            f"{claim.instead} has `shows: {other.shows}`" if other.shows != "works" else None,
        )


def check_names(run: Experiment, path: Path, known: Known, fail: Fail) -> None:
    """Report every node, network, tap and option of a run that its topology does not have.

    The mobile node of a run, with which it begins, and of which its steps speak unless they name another, is
    the topology's first.
    """
    for option in run.options:
        if option not in known.options:
            hint = did_you_mean(option, known.options)
            fail((*path, "options", option), f"unknown option {option}", hint)
    if not any(node.attaches for node in known.nodes.values()):
        fail(path, "a run needs a mobile node, and the topology has none", "add a node that attaches")
    for index, step in enumerate(run.steps):
        step.check((*path, "steps", index), known, fail)
    for index, expectation in enumerate(run.expect):
        expectation.check((*path, "expect", index), known, fail)
