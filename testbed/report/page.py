"""The report: one HTML page from an evidence folder, with everything it needs inside."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from testbed.evidence.carriers import by_kind
from testbed.evidence.folder import RunFolder
from testbed.evidence.handoff import HandOffs
from testbed.evidence.verdicts import SIDES, Claim, RunFacts, Side, Verdicts
from testbed.evidence.versions import Versions
from testbed.report.drawing import Drawing, draw
from testbed.report.evidence import Evidence
from testbed.report.grid import SIGNS, grid
from testbed.report.judged import groups, moves
from testbed.report.ladder import EMPTY, Ladder, build_ladder
from testbed.report.overhead import INNER, overheads
from testbed.report.plots import distributions, plot, timelines
from testbed.report.selection import select
from testbed.report.solutions import SIGNS as SOLUTION_SIGNS
from testbed.report.solutions import Row as Solution
from testbed.report.solutions import rows as judged
from testbed.report.templates import environment
from testbed.topology.load import SOLUTIONS, builtin_topologies
from testbed.topology.model import Topology

VERDICTS = ("reproduced", "refuted", "inconclusive")
ROWS = 40
"""Rows of a ladder that are shown at once; the rest is folded away."""


@dataclass(frozen=True)
class SideView:
    """The run of a claim or its control, each of which may be several runs."""

    side: Side
    facts: RunFacts | None
    runs: tuple[RunView, ...]


@dataclass(frozen=True)
class RunView:
    """One run as the page shows it."""

    name: str  # main, control, main-2 …
    ladder: Ladder
    path: tuple[str, ...]  # networks
    drawings: tuple[Drawing, ...]  # with the path; none if the mobile node went nowhere
    folder: str  # of its captures, relative to the evidence, with a slash at its end
    same: str = ""  # the claim that shows it, where it was carried out as one with that claim's


@dataclass(frozen=True)
class ClaimView:
    """One claim as the page shows it."""

    claim: Claim
    sides: tuple[SideView, ...]
    command: str


@dataclass(frozen=True)
class ScenarioView:
    """One scenario as the page shows it."""

    name: str
    topology: Topology | None
    drawings: tuple[Drawing, ...]
    claims: tuple[ClaimView, ...]


def render_report(evidence: Evidence, *, links: bool = True) -> str:
    """The page; `links` if it will lie in the evidence folder, so that it can point to the files there."""
    verdicts, handoffs = evidence.verdicts, evidence.handoffs
    several = verdicts is not None and not verdicts.scenario
    topology = None if several else evidence.topology
    scenarios = list(_scenarios(evidence, verdicts)) if verdicts else []
    solutions = judged(verdicts, evidence.scenarios) if verdicts else []
    cost = overheads(evidence)
    moved = moves(evidence, verdicts, solutions) if verdicts else []
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            heading=_heading(verdicts, handoffs, solutions),
            when=_when(evidence),
            contents=_contents(
                scenarios, handoffs, solutions, several=several, moved=bool(moved), overhead=bool(cost)
            ),
            topology=topology,
            drawings=_drawings(evidence, topology, []),
            several=several,
            scenarios=scenarios,
            titles={one.name: one.topology.title if one.topology else "" for one in scenarios},
            solutions={one.name: one for one in solutions},
            solution_signs=SOLUTION_SIGNS,
            groups=groups(verdicts, solutions) if verdicts else [],
            moves=moved,
            grid=grid(verdicts, evidence.scenarios) if verdicts and not solutions else [],
            grid_signs=SIGNS,
            selection=select(verdicts, evidence.scenarios) if verdicts and several else None,
            overheads=cost,
            inner=INNER,
            counts=_counts(verdicts, solutions),
            backends=by_kind(
                [
                    *(lab.carriers for lab in (verdicts.backends.values() if verdicts else ())),
                    *(run.carriers for run in (handoffs.runs if handoffs else ())),
                ]
            ),
            versions=_versions(evidence.versions),
            handoffs=handoffs,
            plot=plot(handoffs) if handoffs else None,
            distributions=distributions(handoffs) if handoffs else [],
            timelines=timelines(handoffs) if handoffs else [],
            measure_commands=_measure_commands(handoffs) if handoffs else [],
            links=links,
            rows=ROWS,
        )
    )


def _counts(verdicts: Verdicts | None, solutions: Sequence[Solution]) -> dict[str, int]:
    """How many claims came to each verdict; of solutions, how many cells of their grid to each mark."""
    if solutions:
        cells = [cell.state for row in solutions for cell in row.cells]
        return {
            str(state): cells.count(state)
            for state in reversed(list(SOLUTION_SIGNS))
            if state in cells or state not in ("not-applicable", "undecided")
        }
    return {v: sum(c.verdict == v for c in verdicts.claims) for v in VERDICTS} if verdicts else {}


def _heading(verdicts: Verdicts | None, handoffs: HandOffs | None, solutions: Sequence[Solution]) -> str:
    """What was found, in one line."""
    if solutions:
        guidelines = len({cell.guideline for row in solutions for cell in row.cells})
        some = f"{len(solutions)} solution{'s' * (len(solutions) != 1)}"
        return f"{some} judged by {guidelines} guideline{'s' * (guidelines != 1)} of section 5"
    if verdicts is None:
        return f"Hand-offs in {handoffs.scenario if handoffs else ''}"
    good = sum(one.verdict == "reproduced" for one in verdicts.claims)
    many = len(verdicts.claims)
    about = verdicts.scenario or "Matrix"
    return f"{about}: {good} of {many} claim{'s' * (many != 1)} reproduced"


def _when(evidence: Evidence) -> str:
    """The day of the evidence and the version that made it, as far as the folder has them."""
    day = evidence.written
    version = evidence.versions.testbed if evidence.versions else ""
    return (f", {day:%Y-%m-%d}" if day else "") + (f", testbed {version}" if version else "")


def _contents(
    scenarios: Sequence[ScenarioView],
    handoffs: HandOffs | None,
    solutions: Sequence[Solution],
    *,
    several: bool,
    moved: bool = False,
    overhead: bool,
) -> list[dict[str, Any]]:
    """Anchors, titles and claims of the page's parts; none where it has only one."""
    parts: list[dict[str, Any]] = []
    if solutions:
        titles = {
            "grid": "Solutions and guidelines",
            "compared": "Claims by guideline",
            **({"moves": "One move each"} if moved else {}),
        }
        parts += [{"anchor": anchor, "title": title, "claims": ()} for anchor, title in titles.items()]
    elif scenarios:
        parts.append({"anchor": "grid", "title": "What works, what fails, what it costs", "claims": ()})
    if several and not solutions:
        title = "Which scenarios need solving? (RFC 4093 §3, computed)"
        parts.append({"anchor": "selection", "title": title, "claims": ()})
    if scenarios and overhead:
        parts.append({"anchor": "overhead", "title": "Header overhead per packet", "claims": ()})
    for one in scenarios:
        title = f"{one.name}: {one.topology.title}" if one.topology else one.name
        claims = () if solutions else tuple(view.claim for view in one.claims)
        parts.append({"anchor": one.name if several else "verdicts", "title": title, "claims": claims})
    if handoffs:
        parts.append({"anchor": "handoffs", "title": "Hand-offs", "claims": ()})
    return parts if len(parts) > 1 else []


def _scenarios(evidence: Evidence, verdicts: Verdicts) -> Iterator[ScenarioView]:
    for name, claims in verdicts.by_scenario.items():
        topology = evidence.scenarios.get(name)
        views = tuple(_claim(evidence, _reference(name), claim) for claim in claims)
        yield ScenarioView(name, topology, _drawings(evidence, topology, []), views)


def _reference(name: str) -> str:
    """What a topology is called on the command line, a built-in solution with its folder."""
    return f"{SOLUTIONS}/{name}" if f"{SOLUTIONS}/{name}" in builtin_topologies() else name


def _claim(evidence: Evidence, scenario: str, claim: Claim) -> ClaimView:
    sides = []
    for side in SIDES:
        facts = claim.facts(side)
        runs = (_run(evidence, claim, side, name, run) for name, run in evidence.runs(claim.id, side))
        sides.append(SideView(side, facts, tuple(runs)))
    command = ["testbed", "verify", scenario, "--claim", claim.name or claim.id, "--evidence", "evidence"]
    return ClaimView(claim, tuple(sides), shlex.join(command))


def _run(evidence: Evidence, claim: Claim, side: Side, name: str, run: RunFolder) -> RunView:
    shared = run.record.recorded if run.record else ""
    if shared:
        return RunView(name, EMPTY, (), (), shared, PurePosixPath(shared).parent.name)
    facts = claim.facts(side)
    topology = evidence.topology_of_run(run, facts.lab if facts else "")
    drawings = _drawings(evidence, topology, run.path) if run.path else ()
    ladder = build_ladder(run, topology, _counted(claim, side, name), evidence.roles)
    return RunView(name, ladder, tuple(run.path), drawings, f"claims/{claim.id}/{name}/")


def _counted(claim: Claim, side: Side, run: str) -> dict[tuple[str, str], set[int]]:
    """Which packets of a run were counted, by the number of the finding among those of its side."""
    found: dict[tuple[str, str], set[int]] = {}
    for number, finding in enumerate(claim.findings(side), 1):
        for file, marks in finding.matched.items() if finding.run == run else ():
            for mark in marks:
                found.setdefault((Path(file).name, mark), set()).add(number)
    return found


def _drawings(evidence: Evidence, topology: Topology | None, path: list[str]) -> tuple[Drawing, ...]:
    if topology is None:
        return ()
    stops: dict[str, list[str]] = {}
    for number, network in enumerate(path, 1):
        stops.setdefault(network, []).append(str(number))
    # A mobile node that goes back and forth a hundred times: the first stops are enough.
    marks = {network: [*s[:3], "…"] if len(s) > 4 else s for network, s in stops.items()}
    attached = path[-1] if path else None
    return (
        draw(topology, "wide", attached=attached, path=marks, roles=evidence.roles),
        draw(topology, "narrow", attached=attached, path=marks, roles=evidence.roles),
    )


def _measure_commands(handoffs: HandOffs) -> list[str]:
    """What was typed, as far as the file says: one line per stack and pair of networks."""
    groups: dict[tuple[str, str, str], list[tuple[float, int]]] = {}
    for run in handoffs.runs:
        groups.setdefault((run.topology, run.stack, run.places), []).append((run.rtt_ms, len(run.moves)))
    return [
        shlex.join(
            [
                *("testbed", "measure", "handoff", _reference(topology or handoffs.scenario)),
                *("--stack", stack, "--between", places),
                *("--moves", str(max(moves for _, moves in runs))),
                *("--rtt", ",".join(f"{rtt:g}" for rtt in dict.fromkeys(rtt for rtt, _ in runs)) + "ms"),
            ]
        )
        for (topology, stack, places), runs in groups.items()
    ]


def _versions(versions: Versions | None) -> list[str]:
    """versions.json in words."""
    if versions is None:
        return []
    engine, named = versions.engine, ("testbed", "finished", "image")
    words = {name: getattr(versions, name) for name in named} | {
        engine.name: engine.version,
        "kernel": engine.kernel,
        **versions.programs,
    }
    return [f"{name} {version}" for name, version in words.items() if version]
