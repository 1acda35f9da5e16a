"""Claims: what a document says, how to try it, and what must be seen. Part of a topology file.

A claim has a run and a control. The run tries what the text says; the control is the nearby run in which the
opposite must come out, so that the machinery is known to work and the check is known to be able to fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Protocol

from pydantic import (
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from testbed.claim.expectations import After, Expectation, Packets, Perimeter, Wire
from testbed.claim.steps import OfMobileNode, Step
from testbed.document.marks import Path
from testbed.document.part import Attachment, Part, Stack
from testbed.document.values import Expected, Label, Name
from testbed.errors import did_you_mean
from testbed.packet.filters import filter_hosts

Shows = Literal["works", "fails", "costs"]
Kind = Literal["run", "control"]
KINDS: tuple[Kind, ...] = ("run", "control")


def _claim_id(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,59}", value):
        return value
    raise Expected("a claim's id of lower-case letters, digits, dots and hyphens, at most 60 characters")


ClaimId = Annotated[
    str,
    BeforeValidator(_claim_id),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9][a-z0-9.-]*$", "maxLength": 60}),
]


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
            if step.wait_until:
                yield ("steps", index, "wait-until"), step.wait_until
            if step.expect:
                yield ("steps", index, "expect"), step.expect
        for index, expectation in enumerate(self.expect):
            yield ("expect", index), expectation


class Trial(Experiment):
    """A run that several claims share; each of them may add what it lacks."""

    steps: list[Step] = Field(default_factory=list, description="What is done, one after the other")
    expect: list[Expectation] = Field(default_factory=list, description="What must be seen: all of it")


class TrialUse(Trial):
    """A trial, with keys of the run's own in place of the trial's; `expect` and `sets` are added to them."""

    trial: Label = Field(description="The trial, one of the topology's `trials`")


_Several = Annotated[list[Experiment], Field(min_length=1)]


def _one_or_several(value: Any, _: ValidatorFunctionWrapHandler) -> Experiment | list[Experiment]:
    """Judged as what was written: a union would report the errors of both."""
    if isinstance(value, list):
        return TypeAdapter(_Several).validate_python(value)
    return Experiment.model_validate(value)


Runs = Annotated[Experiment | _Several, WrapValidator(_one_or_several)]
"""One experiment, or several that must all hold."""


class Spoken(Part):
    """The combination of stack and attachment that a claim speaks of."""

    stack: Stack = Field(description="The order of Mobile IPv4 and IPsec on the mobile node")
    attachment: Attachment | None = Field(
        default=None, description="Whose care-of address; none: it does not matter"
    )


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
    run: Runs = Field(description="Tries what the sentence says; a list: all of them must hold")
    control: Runs = Field(description="The nearby run in which the opposite must come out")

    def experiments(self, kind: Kind) -> Iterator[tuple[Path, Experiment]]:
        """The experiments of the run or the control, with their paths in the claim."""
        written = self.run if kind == "run" else self.control
        if isinstance(written, Experiment):
            yield (kind,), written
        else:
            yield from (((kind, index), one) for index, one in enumerate(written))


class Fail(Protocol):
    """Reports an error: the path within the topology file, the message, a hint."""

    def __call__(self, path: Path, message: str, hint: str | None = None) -> None:
        """Report it."""


class Names(Protocol):
    """What a topology has, as far as claims name it (`model.Topology`, which is built on this module)."""

    networks: dict[str, Any]
    nodes: dict[str, Any]
    options: dict[str, Any]
    claims: dict[str, Claim]
    configurations: list[Any]
    deployed: list[Stack]


def check_claims(topology: Names, fail: Fail) -> None:
    """Report every name in the claims of a topology that it does not have, and what they cannot show.

    A run in another topology, or with a number for an option, is checked by `check_names` when its own is
    loaded: the number may be how often a block is repeated, whose nodes are there only then.
    """
    _check_deployed(topology, fail)
    for name, claim in topology.claims.items():
        _check_shown(claim, ("claims", name), fail)
        for kind in KINDS:
            for path, run in claim.experiments(kind):
                counts = any(type(value) is int for value in run.options.values())
                if run.topology is None and not counts:
                    check_names(run, ("claims", name, *path), topology, fail)


def _check_deployed(topology: Names, fail: Fail) -> None:
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


def check_names(run: Experiment, path: Path, known: Names, fail: Fail) -> None:
    """Report every node, network, tap and option of a run that its topology does not have.

    The mobile node of a run, with which it begins, and of which its steps speak unless they name another, is
    the topology's first.
    """
    for option in run.options:
        if option not in known.options:
            hint = did_you_mean(option, known.options)
            fail((*path, "options", option), f"unknown option {option}", hint)
    mobile = {name: node.attaches for name, node in known.nodes.items() if node.attaches}
    if not mobile:
        fail(path, "a run needs a mobile node, and the topology has none", "add a node that attaches")
    first = next(iter(mobile), "")
    for index, step in enumerate(run.steps):
        where: Path = (*path, "steps", index, step.word)
        if isinstance(step.part, Part):
            _check_part(step.part, where, known, fail)
        who = (isinstance(step.part, OfMobileNode) and step.part.node) or first
        if who not in mobile:
            if who in known.nodes:
                fail((*where, "node"), f"{who} is no mobile node", did_you_mean(who, mobile))
            continue
        attachable = mobile[who]
        if step.move or step.carry:
            networks = step.move.to if step.move else [step.carry.to] if step.carry else []
            for network in networks:
                if network not in attachable:
                    fail(
                        (*where, "to"),
                        f"{who} does not attach to {network}",
                        did_you_mean(network, attachable),
                    )
        if step.register_ and step.register_.through not in (*attachable, "ipsec"):
            hint = did_you_mean(step.register_.through, [*attachable, "ipsec"])
            fail((*where, "through"), f"{who} does not attach to {step.register_.through}", hint)
    for inside, expectation in run.expectations():
        where = (*path, *inside, expectation.word)
        _check_part(expectation.part, where, known, fail)
        seen = expectation.mobile_node.node if expectation.mobile_node else None
        if seen in known.nodes and seen not in mobile:
            fail((*where, "node"), f"{seen} is no mobile node", did_you_mean(seen, mobile))
        if expectation.perimeter:
            _check_perimeter(expectation.perimeter, where, known, fail)


def _check_perimeter(part: Perimeter, where: Path, known: Names, fail: Fail) -> None:
    if not any("vpn-gateway" in node.roles for node in known.nodes.values()):
        fail(where, "whose perimeter? the topology has no VPN gateway")
    node = known.nodes.get(part.from_)
    if node is None:
        return  # an unknown node is reported as everywhere
    domains = {known.networks[link].domain for link in node.links if link in known.networks}
    if "internet" not in domains or "intranet" in domains:
        fail(
            (*where, "from"),
            f"{part.from_} is not outside",
            "a node of the Internet, and not of the Intranet",
        )


_NODE_FIELDS = ("node", "from_", "to", "agent", "agents", "inner", "through", "not_through")


def _check_part(part: Part, where: Path, known: Names, fail: Fail) -> None:
    fields = type(part).model_fields
    for name in _NODE_FIELDS:
        value = getattr(part, name, None)
        if value is None or name not in fields or (isinstance(part, OfMobileNode) and name != "node"):
            continue  # where a mobile node goes is a network
        key = fields[name].alias or name
        for node in [value] if isinstance(value, str) else value:
            if node not in known.nodes:
                fail((*where, key), f"unknown node {node}", did_you_mean(node, known.nodes))
    if isinstance(part, Wire) and part.after:
        _check_part(part.after, (*where, "after"), known, fail)
    if isinstance(part, Packets | After):
        for node in filter_hosts(part.filter):
            if node not in known.nodes:
                fail((*where, "filter"), f"unknown node {node}", did_you_mean(node, known.nodes))
    for tap in getattr(part, "at", []):
        node, _, network = tap.partition("/")
        if node not in known.nodes:
            fail((*where, "at"), f"unknown node {node}", did_you_mean(node, known.nodes))
        elif network not in known.nodes[node].networks:
            fail(
                (*where, "at"),
                f"{node} is not on {network}",
                did_you_mean(network, known.nodes[node].networks),
            )
