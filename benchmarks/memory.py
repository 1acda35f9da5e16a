"""Memory of every node of an idle lab, against a container that runs `sleep` from the same image."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.common import arguments, engine_and_image, lab, print_machine, print_table, run
from testbed.engine.api import Container, ContainerSpec
from testbed.engine.docker import DockerEngine
from testbed.engine.names import ROLES

LABEL: Final = "org.testbed.benchmark"
SLEEPER: Final = "bench-sleep"
SCRIPT: Final = """\
for process in /proc/[0-9]*; do
    [ $process = /proc/$$ ] || while read -r key value unit; do
        [ $key != VmRSS: ] || echo $value
    done < $process/status
done
"""


def memory(engine: DockerEngine, container: Container) -> tuple[int, float]:
    """Return the number of processes and the sum of their resident sizes in MiB.

    What processes have in common (libraries, for the most part) counts in each of them.
    """
    sizes = [int(line) for line in run(engine, container, "sh", "-c", SCRIPT).split()]
    return len(sizes), sum(sizes) / 1024


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--topology", default="scenario-2.1")
    parser.add_argument("--settle", type=float, default=5.0, help="seconds to wait first (default: 5)")
    options = parser.parse_args()
    rows: list[list[str]] = []
    total = 0.0
    with engine_and_image() as (engine, image):
        try:
            spec = ContainerSpec(
                name=SLEEPER, hostname=SLEEPER, image=image, labels={LABEL: SLEEPER}, endpoints=(),
                archive=b"", command=("sleep", "infinity"),
            )  # fmt: skip
            engine.start_container(engine.create_container(spec))
            idle = memory(engine, engine.containers({LABEL: SLEEPER})[0])
        finally:
            for each in engine.containers({LABEL: SLEEPER}):
                engine.remove_container(each.id)

        def row(name: str, figures: tuple[int, float]) -> list[str]:
            return [name, f"{figures[0]}", f"{figures[1]:.1f} MiB", f"{figures[1] / idle[1]:.0f}×"]

        rows.append(row("`sleep` alone", idle))
        with lab(engine, image, options.topology, "bench-memory", []) as where:
            time.sleep(options.settle)
            for name, container in where.nodes.items():
                figures = memory(engine, container)
                total += figures[1]
                rows.append(row(f"{name} ({container.labels[ROLES].replace(' ', ', ')})", figures))
        rows.append(["all nodes", "", f"{total:.0f} MiB", ""])
        print_table(
            f"Idle memory of {options.topology}",
            ["node", "processes", "resident", "to `sleep`"],
            rows,
            markdown=options.markdown,
        )
        print_machine(engine)


if __name__ == "__main__":
    main()
