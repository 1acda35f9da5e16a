"""Section 3 of the document, computed: the problems each scenario shows, and what is said about these sets.

A problem belongs to a scenario's set if a reproduced claim on a stack that the document deploys there names
it. A set is known as a whole only where nothing is missing or inconclusive, and of each of these stacks a
reproduced claim says that it works, or which problem it has. Where what is said to work does not, that is a
problem without a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from testbed.claim.claims import Claim as Written
from testbed.evidence.verdicts import Claim, Verdicts
from testbed.topology.model import Topology

State = Literal["held", "not held", "undecided"]
Decision = Literal["reproduced", "refuted", "inconclusive", "missing"]


@dataclass(frozen=True, slots=True)
class Shown:
    """What one claim of a scenario says about its problems."""

    id: str
    decision: Decision
    stack: str
    shows: str | None
    problem: str | None
    drawback: str | None

    @property
    def open(self) -> bool:
        """Whether it was not decided."""
        return self.decision in ("inconclusive", "missing")


@dataclass(frozen=True)
class Scenario:
    """A scenario and what its claims came to."""

    name: str
    topology: Topology
    claims: tuple[Shown, ...]

    @property
    def short(self) -> str:
        """The number of its section."""
        return self.name.removeprefix("scenario-")

    @property
    def counted(self) -> tuple[Shown, ...]:
        """The claims on stacks that the document deploys here."""
        return tuple(one for one in self.claims if one.stack in self.topology.deployed)

    def _naming(self, problem: str, *decisions: Decision) -> tuple[str, ...]:
        return tuple(one.id for one in self.counted if one.problem == problem and one.decision in decisions)

    def shown(self, problem: str) -> tuple[str, ...]:
        """The reproduced claims that show a problem."""
        return self._naming(problem, "reproduced")

    def refuted(self, problem: str) -> tuple[str, ...]:
        """The refuted claims that would have shown it."""
        return self._naming(problem, "refuted")

    def undecided(self, problem: str) -> tuple[str, ...]:
        """The claims that may yet show it; none if it is shown."""
        return () if self.shown(problem) else self._naming(problem, "inconclusive", "missing")

    @property
    def problems(self) -> dict[str, tuple[str, ...]]:
        """P: every problem shown, with the claims that show it."""
        names = dict.fromkeys(one.problem for one in self.counted if one.problem)
        return {name: self.shown(name) for name in names if self.shown(name)}

    @property
    def perhaps(self) -> dict[str, tuple[str, ...]]:
        """The problems that may belong to P: nothing shows them, and not all claims are decided."""
        names = dict.fromkeys(one.problem for one in self.counted if one.problem)
        return {name: self.undecided(name) for name in names if self.undecided(name)}

    def works(self, *decisions: Decision) -> tuple[str, ...]:
        """The claims that something works, by what they came to."""
        return tuple(one.id for one in self.counted if one.shows == "works" and one.decision in decisions)

    @property
    def telling(self) -> tuple[Shown, ...]:
        """The claims that would say of a stack deployed that it works, or which problem it has."""
        return tuple(one for one in self.counted if one.shows == "works" or one.problem)

    @property
    def silent(self) -> tuple[str, ...]:
        """The stacks deployed of which no reproduced claim says so."""
        said = {one.stack for one in self.telling if one.decision == "reproduced"}
        return tuple(stack for stack in self.topology.deployed if stack not in said)

    @property
    def unseen(self) -> bool:
        """Whether P may have more than is known: something that should work was not seen to."""
        return bool(self.works("inconclusive", "missing") or self.silent or not self.topology.deployed)

    @property
    def drawbacks(self) -> dict[str, tuple[str, ...]]:
        """What the document names and does not count, on whatever stack, with the claims that show it."""
        found: dict[str, list[str]] = {}
        for one in self.claims:
            if one.drawback and one.decision == "reproduced":
                found.setdefault(one.drawback, []).append(one.id)
        return {name: tuple(ids) for name, ids in found.items()}


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of section 3 about sets of problems, and whether the verdicts bear it out."""

    text: str
    state: State
    why: str
    claims: tuple[str, ...]  # that decide, or would have to


@dataclass(frozen=True, slots=True)
class Selection:
    """Section 3, computed."""

    scenarios: tuple[Scenario, ...]
    statements: tuple[Statement, ...]
    if_drawbacks_counted: str

    @property
    def conclusion(self) -> str:
        """What section 3 concludes from these sentences, as far as they hold; nothing from none."""
        if any(one.state == "not held" for one in self.statements):
            return "So the selection does not follow from what was seen."
        if any(one.state == "undecided" for one in self.statements):
            return "So the selection is not decided by what was seen."
        within: dict[str, list[str]] = {}
        for one in self.scenarios:
            within.setdefault(_said(one).removeprefix("scenario-"), []).append(one.short)
        none, _ = within.pop("none", []), within.pop("any", [])
        parts = [f"to solve {other} is to solve {listed(these)} as well" for other, these in within.items()]
        parts += [f"in {listed(none)} there is nothing to solve"] if none else []
        return f"So {', and '.join(parts)}." if parts else ""


def _said(scenario: Scenario) -> str:
    return scenario.topology.selection.problems if scenario.topology.selection else ""


def select(verdicts: Verdicts, topologies: Mapping[str, Topology]) -> Selection | None:
    """Compute the selection; None where no topology says what the document says on it."""
    by_scenario = verdicts.by_scenario
    scenarios = [
        Scenario(name, topology, tuple(_claims(topology, by_scenario.get(name, []))))
        for name, topology in topologies.items()
        if topology.selection
    ]
    if not scenarios:
        return None
    known = {one.name: one for one in scenarios}
    statements = [made for one in scenarios if (made := _statement(one, known))]
    return Selection(tuple(scenarios), tuple(statements), _with_drawbacks(scenarios, known))


def _claims(topology: Topology, decided: Sequence[Claim]) -> Iterable[Shown]:
    for claim in decided:
        stack = (claim.configuration or {}).get("stack") or ""
        yield Shown(claim.id, claim.verdict, stack, claim.shows, claim.problem, claim.drawback)
    ids = {claim.id for claim in decided}
    for name, written in topology.claims.items():
        if name not in ids:
            yield _missing(name, written)


def _missing(name: str, claim: Written) -> Shown:
    stack = claim.configuration.stack if claim.configuration else ""
    return Shown(name, "missing", stack, claim.shows, claim.problem, claim.drawback)


def _statement(scenario: Scenario, known: Mapping[str, Scenario]) -> Statement | None:
    said = _said(scenario)
    if said == "any":
        return None
    if said == "none":
        return _decide(f"P({scenario.short}) = ∅", scenario, None)
    text = f"P({scenario.short}) ⊆ P({said.removeprefix('scenario-')})"
    if said not in known:
        return Statement(text, "undecided", f"{said} was not tried", ())
    return _decide(text, scenario, known[said])


def _decide(text: str, scenario: Scenario, within: Scenario | None) -> Statement:
    """Whether `within` has every problem of a scenario; without `within`: whether it has none."""
    against: list[str] = []  # why it does not hold
    doubts: list[str] = []
    deciding: dict[State, list[str]] = {"held": [], "not held": [], "undecided": []}
    for problem, ids in scenario.problems.items():
        if within and (there := within.shown(problem)):
            deciding["held"] += [*ids, *there]
        elif within and (there := within.undecided(problem)):
            doubts.append(f"whether {within.short} has {problem} is not decided")
            deciding["undecided"] += there
        else:
            where = f", which is not shown in {within.short}" if within else ""
            against.append(f"{scenario.short} has {problem}{where}")
            deciding["not held"] += [*ids, *(within.refuted(problem) if within else ())]
    if broken := scenario.works("refuted"):
        against.append("something does not work as the document says")
        deciding["not held"] += broken
    for problem, ids in scenario.perhaps.items():
        if not (within and within.shown(problem)):
            doubts.append(f"whether {scenario.short} has {problem} is not decided")
            deciding["undecided"] += ids
    if unseen := scenario.works("inconclusive", "missing"):
        doubts.append(f"not all that works in {scenario.short} was seen to work")
        deciding["undecided"] += unseen
    if not scenario.topology.deployed:
        doubts.append(f"no stack is said to be deployed in {scenario.short}")
    elif scenario.silent:
        doubts.append(f"nothing shows what {listed(scenario.silent)} does in {scenario.short}")
        deciding["undecided"] += (one.id for one in scenario.telling if one.stack in scenario.silent)
    deciding["held"] += scenario.works("reproduced")
    state: State = "not held" if against else "undecided" if doubts else "held"
    why = "; ".join(against or doubts) or _so(scenario, within)
    return Statement(text, state, why, tuple(dict.fromkeys(deciding[state])))


def _so(scenario: Scenario, within: Scenario | None) -> str:
    names = listed(scenario.problems)
    if not names:
        return "no problem shown, and what is deployed works"
    return f"{names}: also in {within.short}" if within else names


def _with_drawbacks(scenarios: Sequence[Scenario], known: Mapping[str, Scenario]) -> str:
    """What would follow if drawbacks were problems, as a sentence."""
    consequences = []
    for scenario in scenarios:
        said = _said(scenario)
        other = known.get(said)
        if said == "none" and scenario.drawbacks:
            consequences.append(f"P({scenario.short}) would not be empty ({listed(scenario.drawbacks)})")
        elif other:
            beyond = [
                name for name in scenario.drawbacks if name not in {**other.problems, **other.drawbacks}
            ]
            if beyond:
                be = "is" if len(beyond) == 1 else "are"
                consequences.append(
                    f"P({scenario.short}) ⊆ P({other.short}) would not hold "
                    f"({listed(beyond)} {be} not in {other.short})"
                )
    if not consequences:
        claims = [claim for scenario in scenarios for claim in scenario.claims]
        unknown = listed(dict.fromkeys(one.drawback for one in claims if one.drawback and one.open))
        change = f"what would change is not decided ({unknown})" if unknown else "nothing would change"
        return f"If drawbacks counted as problems, {change}."
    return f"If drawbacks counted as problems, {'; '.join(consequences)}."


def listed(names: Iterable[str]) -> str:
    """Names in a row."""
    *most, last = [*names] or [""]
    return f"{', '.join(most)} and {last}" if most else last
