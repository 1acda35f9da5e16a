"""The report: one HTML page from an evidence folder, with everything it needs inside."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from testbed.report.drawing import Drawing, draw
from testbed.report.evidence import SIDES, Claim, Evidence, HandOffs, RunFacts, Side
from testbed.report.ladder import Ladder, build_ladder
from testbed.report.plots import distributions, plot, timelines
from testbed.report.templates import environment
from testbed.report.tree import arrange
from testbed.topology.model import Topology

VERDICTS = ("reproduced", "refuted", "inconclusive")
ROWS = 40
"""Rows of a ladder that are shown at once; the rest is folded away."""


@dataclass(frozen=True)
class RunView:
    """One run of a claim as the page shows it."""

    side: Side
    facts: RunFacts | None
    ladder: Ladder
    path: tuple[str, ...]


@dataclass(frozen=True)
class ClaimView:
    """One claim as the page shows it."""

    claim: Claim
    runs: tuple[RunView, ...]
    drawings: tuple[Drawing, ...]  # with the path of the main run; none if the mobile node went nowhere
    command: str


def render_report(evidence: Evidence, *, links: bool = True) -> str:
    """The page; `links` if it will lie in the evidence folder, so that it can point to the files there."""
    topology = evidence.topology
    order = _order(topology)
    verdicts, handoffs = evidence.verdicts, evidence.handoffs
    claims = [_claim(evidence, claim, order) for claim in verdicts.claims] if verdicts else []
    scenario = verdicts.scenario if verdicts else handoffs.scenario if handoffs else ""
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            scenario=scenario,
            topology=topology,
            drawings=_drawings(topology, []),
            claims=claims,
            counts={v: sum(view.claim.verdict == v for view in claims) for v in VERDICTS},
            backends=verdicts.backends if verdicts else {},
            versions=evidence.versions,
            handoffs=handoffs,
            plot=plot(handoffs) if handoffs else None,
            distributions=distributions(handoffs) if handoffs else [],
            timelines=timelines(handoffs) if handoffs else [],
            measure_commands=_measure_commands(handoffs) if handoffs else [],
            links=links,
            rows=ROWS,
        )
    )


def write_report(evidence: Evidence, path: Path) -> None:
    """Write the page to a file."""
    inside = path.resolve().parent == evidence.folder.resolve()
    path.write_text(render_report(evidence, links=inside))


def _order(topology: Topology | None) -> list[str]:
    """Nodes as the topology is drawn, the mobile node first."""
    if topology is None:
        return []
    layers = {item.name: item.layer for item in arrange(topology).items if item.kind == "node"}
    mobile = [name for name, node in topology.nodes.items() if node.attaches]
    rest = [name for name in topology.nodes if name not in mobile]
    return [*mobile, *sorted(rest, key=lambda name: layers.get(name, 0))]


def _claim(evidence: Evidence, claim: Claim, order: list[str]) -> ClaimView:
    runs = []
    for side in SIDES:
        facts, run = claim.facts(side), evidence.run(claim.id, side)
        names = evidence.names(facts.lab if facts else "")
        ladder = build_ladder(run, evidence.topology, names, order=order)
        runs.append(RunView(side, facts, ladder, tuple(run.path)))
    assert evidence.verdicts is not None
    return ClaimView(
        claim,
        tuple(runs),
        _drawings(evidence.topology, list(runs[0].path)) if runs[0].path else (),
        shlex.join(
            ["testbed", "verify", evidence.verdicts.scenario, "--claim", claim.id, "--evidence", "evidence"]
        ),
    )


def _drawings(topology: Topology | None, path: list[str]) -> tuple[Drawing, ...]:
    if topology is None:
        return ()
    stops: dict[str, list[str]] = {}
    for number, network in enumerate(path, 1):
        stops.setdefault(network, []).append(str(number))
    # A mobile node that goes back and forth a hundred times: the first stops tell the story.
    marks = {network: [*s[:3], "…"] if len(s) > 4 else s for network, s in stops.items()}
    attached = path[-1] if path else None
    return (
        draw(topology, "wide", attached=attached, path=marks),
        draw(topology, "narrow", attached=attached, path=marks),
    )


def _measure_commands(handoffs: HandOffs) -> list[str]:
    """What was typed, as far as the file tells: one line per stack and pair of networks."""
    groups: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for run in handoffs.runs:
        groups.setdefault((run.stack, run.places), []).append((run.rtt_ms, len(run.moves)))
    return [
        shlex.join(
            [
                *("testbed", "measure", "handoff", handoffs.scenario, "--stack", stack, "--between", places),
                *("--moves", str(max(moves for _, moves in runs))),
                *("--rtt", ",".join(f"{rtt:g}" for rtt in dict.fromkeys(rtt for rtt, _ in runs)) + "ms"),
            ]
        )
        for (stack, places), runs in groups.items()
    ]
