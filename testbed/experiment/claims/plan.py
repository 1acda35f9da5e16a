"""Which labs a verification needs, and which runs take place in each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from heapq import heapify, heapreplace
from pathlib import Path
from typing import Any, Final, get_args

from testbed.claim.claims import Claim, Experiment, check_names
from testbed.document.marks import Path as Place
from testbed.document.part import Stack
from testbed.document.read import dotted
from testbed.errors import Source, TestbedError, TopologyError, UsageError, did_you_mean, raise_errors
from testbed.evidence.verdicts import KINDS, Kind
from testbed.render import REDACTED, render_lab
from testbed.topology.cast import Named
from testbed.topology.load import builtin_topologies, load_topology, relative_to
from testbed.topology.loaded import LoadedTopology
from testbed.topology.overrides import option_texts


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of one claim."""

    claim: str
    kind: Kind
    experiment: Experiment
    number: int = 1  # of several
    also: tuple[PlannedRun, ...] = ()
    """Runs of other claims that take the same steps in the same lab, and are carried out as one with it."""

    @property
    def all(self) -> tuple[PlannedRun, ...]:
        """It, and those it is carried out as one with."""
        return (self, *self.also)

    @property
    def whole(self) -> Experiment:
        """Its steps, and what any of them expects, each expectation once."""
        wanted = [one for run in self.all for one in run.experiment.expect]
        once = [one for at, one in enumerate(wanted) if one not in wanted[:at]]
        return self.experiment.model_copy(update={"expect": once})


@dataclass(frozen=True, slots=True)
class Scenario:
    """A topology, and those of its claims that are to be decided."""

    loaded: LoadedTopology
    claims: Mapping[str, Claim]
    prefix: str = ""
    """What the evidence has before the names of its claims, where other topologies make the same ones."""

    def id(self, claim: str) -> str:
        """What the evidence calls a claim."""
        return f"{self.prefix}{claim}"


@dataclass(frozen=True, slots=True)
class _Made:
    """What makes a lab, as rendered: equal for labs that are the same, whatever run needs them."""

    topology: str
    networks: frozenset[tuple[str, str]]
    """The networks, but for their kinds, which matter to the nodes on them."""
    rest: frozenset[tuple[str, str]]
    """The nodes but the mobile ones: the files of each, and whatever else of it may change."""
    mobile: frozenset[tuple[str, str]]
    """The mobile nodes, likewise."""
    options: str
    """The options chosen."""

    def grows_into(self, other: _Made) -> bool:
        """Whether the other has all networks of this, and perhaps more."""
        return self.topology == other.topology and self.networks <= other.networks

    def replaced(self, before: _Made) -> tuple[int, int]:
        """How many nodes are new or replaced where it follows another lab: mobile ones last."""
        return len(self.rest - before.rest), len(self.mobile - before.mobile)


@dataclass(slots=True)
class Stage:
    """A lab in one configuration, and the runs that take place in it, in the order of the files."""

    topology: LoadedTopology
    made: _Made
    runs: list[PlannedRun] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """About how long its runs take, for the order of labs."""
        return sum(run_seconds(run.whole) for run in self.runs)


@dataclass(slots=True)
class PlannedLab:
    """A lab and its stages, one after the other; from one to the next only nodes that differ are replaced."""

    stages: list[Stage]

    @property
    def seconds(self) -> float:
        """About how long it will be busy, for the order of labs."""
        changes = CHANGE_SECONDS * (len(self.stages) - 1)
        return LAB_SECONDS + changes + sum(stage.seconds for stage in self.stages)

    def halves(self) -> tuple[PlannedLab, PlannedLab]:
        """Two labs that share its stages as evenly as their order allows, or the runs of its only stage."""
        if len(self.stages) > 1:
            cuts = [
                (PlannedLab(self.stages[:at]), PlannedLab(self.stages[at:]))
                for at in range(1, len(self.stages))
            ]
            return min(cuts, key=lambda cut: max(lab.seconds for lab in cut))
        (stage,) = self.stages
        first, second = Stage(stage.topology, stage.made), Stage(stage.topology, stage.made)
        for run in stage.runs:
            min(first, second, key=lambda half: half.seconds).runs.append(run)
        return PlannedLab([first]), PlannedLab([second])


SCENARIO: Final = "scenario-"
"""How the names of built-in topologies begin that are scenarios of the document."""
LAB_SECONDS: Final = 8.0  # up and down
CHANGE_SECONDS: Final = 3.0  # another configuration of a lab that is up
RUN_SECONDS: Final = 5.0
IN_VAIN: Final = 5.0
"""What was measured, rounded: a run that waits for something that must not come takes that much longer."""
_KIND: Final = ("domain", "medium")
"""What of a network changes without another lab: it is made anew, and the nodes on it."""


def run_seconds(experiment: Experiment) -> float:
    """About how long a run takes."""
    in_vain = any(one.part.takes_long for _, one in experiment.expectations())
    return RUN_SECONDS + IN_VAIN * in_vain


def choose_claims(loaded: LoadedTopology, wanted: Sequence[str] = (), stacks: Sequence[str] = ()) -> Scenario:
    """The claims asked for, all of them by default, in the order of the file. Raises `UsageError`.

    What is wanted is names and shell patterns (`2.1-fa-*`), each of which must meet a claim. With `stacks`
    only those that speak of one of them, which may be none.
    """
    claims = loaded.topology.claims
    if not claims:
        raise UsageError(
            f"{loaded.name} makes no claims", hint="testbed vocabulary explains the words of claims"
        )
    for one in wanted:
        if not any(meets(name, [one]) for name in claims):
            raise UsageError(f"{loaded.name} has no claim {one}", hint=did_you_mean(one, claims))
    return Scenario(
        loaded,
        {
            name: claim
            for name, claim in claims.items()
            if not (claim.needs and claim.needs.lacking(loaded.nodes))
            and meets(name, wanted)
            and (not stacks or (claim.configuration and claim.configuration.stack in stacks))
        },
    )


def choose_scenarios(
    names: Sequence[str] = (), stacks: Sequence[str] = (), claims: Sequence[str] = ()
) -> list[Scenario]:
    """The scenarios asked for, all built-in ones by default, with those of their claims that are on a stack.

    `claims` are names and shell patterns, each of which must meet a claim of some scenario. Raises
    `UsageError`, also where nothing is left, and where two of them have one name in the evidence.
    """
    known = get_args(Stack)
    for one in stacks:
        if one not in known:
            raise UsageError(f"there is no stack {one}", hint=did_you_mean(one, known))
    every = [name for name in builtin_topologies() if name.startswith(SCENARIO)]
    loaded = [load_topology(name) for name in dict.fromkeys(names or every)]
    _check_selections(loaded, every)
    for name, times in Counter(one.name for one in loaded).items():
        if times > 1:
            raise UsageError(f"two of the scenarios are called {name}", hint="verify them one by one")
    if not names:
        loaded = [one for one in loaded if one.topology.claims]
    every_claim = [name for one in loaded for name in one.topology.claims]
    for one in claims:
        if not any(meets(name, [one]) for name in every_claim):
            raise UsageError(f"no scenario has a claim {one}", hint=did_you_mean(one, every_claim))
    chosen = [
        Scenario(one.loaded, {name: claim for name, claim in one.claims.items() if meets(name, claims)})
        for one in (choose_claims(each, (), stacks) for each in loaded)
    ]
    if not any(one.claims for one in chosen):
        raise UsageError(f"no claim {'asked for ' if claims else ''}speaks of {' or '.join(stacks)}")
    return [one for one in chosen if one.claims]


def meets(name: str, patterns: Sequence[str]) -> bool:
    """Whether a claim is asked for, by its name or a pattern (`2.1-fa-*`); without patterns all are."""
    return not patterns or any(fnmatchcase(name, one) for one in patterns)


def _check_selections(loaded: Sequence[LoadedTopology], builtin: Sequence[str]) -> None:
    """The problems of a scenario are compared with those of another, which may be the user's own.

    So a wrong name is found here, where all scenarios to compare are known.
    """
    known = dict.fromkeys(("any", "none", *(one.name for one in loaded), *builtin))
    path = ("selection", "problems")
    raise_errors(
        TopologyError(
            f"{dotted(path)}: no scenario is called {selection.problems}",
            hint=did_you_mean(selection.problems, known),
            source=one.source(*path),
        )
        for one in loaded
        if (selection := one.topology.selection) and selection.problems not in known
    )


def plan_stages(
    scenarios: Sequence[Scenario], templates: Path | None = None, *, share: bool = False
) -> list[Stage]:
    """Sort the runs of all claims by the configuration they need; the longest stage comes first.

    Changes that the user asked for (`--set`) hold for the claims' own topology; what a run asks for comes
    after them. With `share` runs that take the same steps in the same lab are carried out as one. Raises
    every error at once, each at its place in the claims' file.
    """
    stages: dict[_Made, Stage] = {}
    topologies: dict[tuple[str, tuple[str, ...]], tuple[LoadedTopology, _Made] | None] = {}
    errors: list[TestbedError] = [_twice(claim) for claim in _claims_twice(scenarios)]
    for scenario in scenarios:
        loaded = scenario.loaded
        for name, claim in scenario.claims.items():
            runs = [
                (kind, number, ("claims", name, *path), experiment)
                for kind in KINDS
                for number, (path, experiment) in enumerate(claim.experiments(kind), 1)
            ]
            for kind, number, path, experiment in runs:
                written = loaded.source(*path, "topology")
                ref = _reference(loaded, experiment.topology, written)
                own = experiment.topology is None
                sets = (*(loaded.sets if own else ()), *_sets(experiment))
                if (ref, sets) not in topologies:
                    try:
                        topology = load_topology(ref, sets=sets, templates=templates)
                        topologies[ref, sets] = topology, _made(topology)
                    except TestbedError as error:
                        topologies[ref, sets] = None
                        errors.append(error)
                found = topologies[ref, sets]
                if found is None:
                    continue
                topology, made = found
                errors += _names(loaded, topology, path, experiment)
                stage = stages.setdefault(made, Stage(topology, made))
                _add(stage.runs, PlannedRun(scenario.id(name), kind, experiment, number), share=share)
    raise_errors(errors)
    return sorted(stages.values(), key=lambda stage: -stage.seconds)


def _add(runs: list[PlannedRun], run: PlannedRun, *, share: bool) -> None:
    for at, one in enumerate(runs if share else ()):
        if one.experiment.steps == run.experiment.steps:
            runs[at] = replace(one, also=(*one.also, run))
            return
    runs.append(run)


def _claims_twice(scenarios: Sequence[Scenario]) -> list[str]:
    counted = Counter(scenario.id(name) for scenario in scenarios for name in scenario.claims)
    return [name for name, times in counted.items() if times > 1]


def _twice(claim: str) -> UsageError:
    return UsageError(f"two of the scenarios have a claim {claim}", hint="verify them one by one")


def plan_labs(stages: Sequence[Stage], jobs: int, *, keep: bool = False) -> list[PlannedLab]:
    """The labs of all stages. Those that are kept are left as their runs needed them: each stage has one."""
    return [PlannedLab([stage]) for stage in stages] if keep else share_labs(stages, jobs)


def share_labs(stages: Sequence[Stage], jobs: int) -> list[PlannedLab]:
    """Labs for all stages, the longest first: those on the same networks take turns in a lab, which may grow.

    The longest stage comes first, and then always the one for which the fewest nodes are replaced. Those that
    differ in mobile nodes alone follow one another: other routers would have to find their ways through a new
    one. The longest lab is split while that shortens the whole by at least one lab's up-and-down.
    """
    alike: dict[tuple[str, frozenset[tuple[str, str]]], list[Stage]] = {}
    for stage in stages:
        alike.setdefault((stage.made.topology, stage.made.networks), []).append(stage)
    labs: list[PlannedLab] = []
    for group in sorted(alike.values(), key=lambda group: len(group[0].made.networks)):
        lab = next((lab for lab in labs if lab.stages[-1].made.grows_into(group[0].made)), None)
        if lab is None:
            labs.append(lab := PlannedLab([group.pop(0)]))
        while group:
            last = lab.stages[-1].made
            fewest = min(range(len(group)), key=lambda at: group[at].made.replaced(last))
            lab.stages.append(group.pop(fewest))
    best = sorted(labs, key=lambda lab: -lab.seconds)
    while best and (len(best[0].stages) > 1 or len(best[0].stages[0].runs) > 1):
        tried = sorted([*best[0].halves(), *best[1:]], key=lambda lab: -lab.seconds)
        if _all_done(tried, jobs) > _all_done(best, jobs) - LAB_SECONDS:
            break
        best = tried
    return best


def _made(topology: LoadedTopology) -> _Made:
    """Render a topology and take down what makes its lab."""
    rendered = render_lab(topology, lab="", secrets=REDACTED, templates=topology.templates)
    networks = topology.document["networks"]
    nodes = {
        name: [
            node.roles,
            {path: (file.content, file.mode) for path, file in node.files.items() if not file.live},
            dict(node.sysctls),
            sorted(node.capabilities),
            node.image,
            node.links,
            [networks[network].get(fact) for network in node.links for fact in _KIND],
        ]
        for name, node in rendered.nodes.items()
    }
    mobile = {name: nodes.pop(name) for name in topology.mobile_nodes}
    return _Made(
        topology.name,
        _each({name: {**network, **dict.fromkeys(_KIND)} for name, network in networks.items()}),
        _each(nodes),
        _each(mobile),
        _json(topology.options),
    )


def _each(parts: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    return frozenset((name, _json(part)) for name, part in parts.items())


def _json(parts: Any) -> str:
    return json.dumps(parts, sort_keys=True, default=str)


def _all_done(labs: Sequence[PlannedLab], jobs: int) -> float:
    """After how many seconds `jobs` at once have worked off the labs, in their order."""
    busy = [0.0] * jobs
    heapify(busy)
    for lab in labs:
        heapreplace(busy, busy[0] + lab.seconds)
    return max(busy)


def _reference(loaded: LoadedTopology, topology: str | None, written: Source) -> str:
    """A built-in topology by name; a file relative to the file that names it, at `written`."""
    if topology is None:
        return loaded.file
    return relative_to(Path(written.file).parent, topology)


def _sets(experiment: Experiment) -> tuple[str, ...]:
    return (*option_texts(experiment.options), *experiment.sets)


def _names(
    loaded: LoadedTopology, other: LoadedTopology, path: Place, run: Experiment
) -> list[TopologyError]:
    errors: list[TopologyError] = []

    def fail(path: tuple[str | int, ...], message: str, hint: str | None = None) -> None:
        text = f"{dotted(path)}: {message} ({other.name})"
        errors.append(TopologyError(text, hint=hint, source=loaded.source(*path)))

    check_names(run, path, Named(other), fail)
    return errors
