"""CPU time of a Mobile IP daemon until it has imported what it needs, against a Python that imports nothing.

In a container of the node image, with its Python; everything in turn.
"""

from __future__ import annotations

import statistics
from typing import Final

from benchmarks.common import arguments, engine_and_image, print_machine, print_table, run
from testbed.engine.api import ContainerSpec

NAME: Final = "bench-imports"
LABEL: Final = "org.testbed.benchmark"
MEASURE: Final = "import time; print(time.process_time())"
# A shell's child: what the engine executes has spent CPU time of the engine's own before it is that program.
CHILD: Final = ("sh", "-c", 'python3 -c "$1"; exit $?', "sh")
BARE: Final = "python3 -c pass"
TARGET: Final = 0.080
"""Seconds."""


def program(role: str) -> str:
    """A program that imports what a daemon does before it reads its configuration, as it does it."""
    modules = f"core.{role}", f"io.{role}", f"io.{role}_toml"
    return f"""
from testbed.mobileip import __main__
import gc; gc.disable()
import testbed.mobileip.io.daemon
import {", ".join(f"testbed.mobileip.{module}" for module in modules)}
{MEASURE}
"""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="rounds (default: 20)")
    options = parser.parse_args()
    programs = {BARE: MEASURE}
    programs |= {
        role.replace("_", "-"): program(role) for role in ("home_agent", "foreign_agent", "mobile_node")
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    with engine_and_image() as (engine, image):
        labels = {LABEL: NAME}
        spec = ContainerSpec(NAME, NAME, image, labels, (), b"", command=("sleep", "infinity"))
        id = engine.create_container(spec)
        try:
            engine.start_container(id)
            (container,) = engine.containers(labels)
            version = run(engine, container, "python3", "--version").strip()
            for _ in range(options.rounds):
                for name, text in programs.items():
                    seconds[name].append(float(run(engine, container, *CHILD, text)))
        finally:
            engine.remove_container(id)
        bare = statistics.median(seconds[BARE])
        rows = [
            (
                name,
                f"{min(each) * 1000:.0f} ms",
                f"{statistics.median(each) * 1000:.0f} ms",
                f"{statistics.median(each) / bare:.1f}×",
                "" if name == BARE else f"≤ {TARGET * 1000:.0f} ms",
            )
            for name, each in seconds.items()
        ]
        print_table(
            f"Imports: CPU time, {options.rounds} rounds, {version}",
            ["", "least", "median", "to bare", "target"],
            rows,
            markdown=options.markdown,
        )
        print_machine(engine)


if __name__ == "__main__":
    main()
