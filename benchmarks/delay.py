"""The outage of a hand-off against the round-trip time, with netem and with the relay of our own.

A delay is a delay: the slopes of both must be the same, over the round trips that packets really had. The
labs differ in one line of the hub's relay.toml. They are measured in turn, so that a slope can be held
against one of the same backend in another round. Needs an engine whose kernel has netem (`testbed doctor`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.common import arguments, engine_and_image, note, print_machine, print_table
from testbed.cli.measure import parse_rtts
from testbed.data import data_dir
from testbed.engine.api import Engine
from testbed.evidence.handoff import HandOffRun
from testbed.experiment.evidence import Evidence
from testbed.experiment.handoff.fit import Line, fit_line
from testbed.experiment.handoff.measure import Measurement, plan_stacks
from testbed.lab.addresses import choose_pool

BACKENDS: Final = ("netem", "relay")
TEMPLATE: Final = "routing/relay.toml.j2"
BETWEEN: Final = ("hotel", "airport")

Runs = list[HandOffRun]


class Say:
    """Progress as lines on standard error."""

    def say(self, text: str) -> None:
        """Tell what was done."""
        note(text)

    def show(self, text: str) -> None:
        """What goes on this moment is not worth a line."""


def templates_with(backend: str, folder: Path) -> Path:
    """Make a template folder that gives the hub's relay its backend."""
    file = folder / TEMPLATE
    file.parent.mkdir(parents=True)
    built_in = (data_dir("templates") / TEMPLATE).read_text(encoding="utf-8")
    file.write_text(f'backend = "{backend}"\n{built_in}', encoding="utf-8")
    return folder


def measure(
    engine: Engine, image: str, topology: str, backend: str, rtts: Sequence[float], moves: int
) -> Runs:
    """Bring up a lab on this backend and measure its hand-offs; return handoff.json's runs."""
    with TemporaryDirectory() as folder:
        templates = templates_with(backend, Path(folder) / "templates")
        plans = plan_stacks(topology, (), (), BETWEEN, templates)
        evidence = Evidence(Path(folder) / "evidence")
        name = f"bench-delay-{backend}"
        measurement = Measurement(engine, image, choose_pool(), evidence, name=name, progress=Say())
        runs: Runs = measurement.measure(plans, rtts, moves).runs
    used = {run.delay for run in runs}
    assert used == {backend}, used  # else the comparison would be of a backend with itself
    return runs


def point(rounds: Sequence[Runs], at: int) -> tuple[float, float]:
    """The medians of the round trips and of the outages in ms, where the same round-trip time was set."""
    trips = [move.rtt_ms for runs in rounds for move in runs[at].moves if move.rtt_ms is not None]
    return median(trips), median(outage for runs in rounds for outage in runs[at].outages)


def line(rounds: Sequence[Runs]) -> Line:
    """The line through the medians."""
    found = fit_line([point(rounds, at) for at in range(len(rounds[0]))])
    assert found, "two round-trip times at least"
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--moves", type=int, default=11, help="for each round-trip time (default: 11)")
    parser.add_argument("--rounds", type=int, default=2, help="of both backends (default: 2)")
    parser.add_argument("--rtt", default="0,40,100,200ms", help="round-trip times (default: 0,40,100,200ms)")
    parser.add_argument("topologies", nargs="*", default=["plain-mip", "scenario-2.1"])
    options = parser.parse_args()
    rtts = parse_rtts(options.rtt)
    with engine_and_image() as (engine, image):
        slopes: list[list[str]] = []
        for topology in options.topologies:
            rounds: dict[str, list[Runs]] = {backend: [] for backend in BACKENDS}
            for number in range(1, options.rounds + 1):
                for backend in BACKENDS:
                    note(f"{topology} on {backend}, round {number} of {options.rounds}")
                    runs = measure(engine, image, topology, backend, rtts, options.moves)
                    rounds[backend].append(runs)
            print_table(
                f"{topology}: round trip and outage (ms), medians of {options.rounds} x {options.moves}",
                ["delay set", *(f"{backend}: {what}" for backend in BACKENDS for what in ("trip", "outage"))],
                [
                    [f"{rtt:g}", *(f"{ms:,.1f}" for backend in BACKENDS for ms in point(rounds[backend], at))]
                    for at, rtt in enumerate(rtts)
                ],
                markdown=options.markdown,
            )
            lines = {backend: line(of) for backend, of in rounds.items()}
            slopes += [
                [
                    f"{topology}, {backend}",
                    f"{lines[backend].k:.3f}",
                    f"{lines[backend].constant:,.0f} ms",
                    ", ".join(f"{line([runs]).k:.3f}" for runs in rounds[backend]),
                    f"{lines[backend].k / lines[BACKENDS[0]].k:.3f}",
                ]
                for backend in BACKENDS
            ]
        print_table(
            "Outage = k x round trip + constant",
            ["", "k", "constant", "k of each round", "k to netem"],
            slopes,
            markdown=options.markdown,
        )
        print_machine(engine)


if __name__ == "__main__":
    main()
