"""Memory of every node of an idle lab, against a container that runs `sleep` from the same image."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.common import arguments, engine_and_image, lab, print_machine, print_table, run
from testbed.engine.api import Container, ContainerSpec
from testbed.engine.docker import DockerEngine

LABEL: Final = "org.testbed.benchmark"
SLEEPER: Final = "bench-sleep"
SCRIPT: Final = (
    "for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || grep -hs -e ^Rss: -e ^Pss: $p/smaps_rollup; done; :"
)


def memory(engine: DockerEngine, container: Container) -> tuple[int, float, float]:
    """Return the number of processes, the sum of their resident sizes and of their shares, in MiB.

    A page that n processes map is resident in each, and an n-th of it is the share of each.
    """
    resident: list[int] = []
    share: list[int] = []
    for line in run(engine, container, "sh", "-c", SCRIPT).splitlines():
        (resident if line.startswith("Rss") else share).append(int(line.split()[1]))
    # The script's grep may have counted itself, which is a rounding error.
    return len(resident), sum(resident) / 1024, sum(share) / 1024


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--topology", default="scenario-2.1")
    parser.add_argument("--settle", type=float, default=5.0, help="seconds to wait first (default: 5)")
    options = parser.parse_args()
    rows: list[list[str]] = []
    total = [0.0, 0.0]
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

        def row(name: str, roles: str, figures: tuple[int, float, float]) -> list[str]:
            processes, resident, share = figures
            ratio = f"{resident / idle[1]:.0f}×"
            return [name, f"{processes}", f"{resident:.1f} MiB", f"{share:.1f} MiB", ratio, roles]

        rows.append(row("`sleep` alone", "", idle))
        with lab(engine, image, options.topology, "bench-memory", []) as where:
            time.sleep(options.settle)
            for name, container in where.nodes.items():
                figures = memory(engine, container)
                total = [total[0] + figures[1], total[1] + figures[2]]
                rows.append(row(name, container.labels["org.testbed.roles"], figures))
        rows.append(["all nodes", "", f"{total[0]:.0f} MiB", f"{total[1]:.0f} MiB", "", ""])
        print_table(
            f"Idle memory of {options.topology}",
            ["node", "processes", "resident", "share", "to `sleep`", "roles"],
            rows,
            markdown=options.markdown,
        )
        print_machine(engine)


if __name__ == "__main__":
    main()
