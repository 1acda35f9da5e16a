"""Memory of every node of an idle lab, against a container that runs `sleep` from the same image."""

from __future__ import annotations

import time
from typing import Final

import docker

from benchmarks.common import arguments, engine_and_image, lab, print_machine, print_table, run
from testbed.engine.api import Container, ContainerSpec
from testbed.engine.docker import DockerEngine

LABEL: Final = "org.testbed.benchmark"
SLEEPER: Final = "bench-sleep"
SCRIPT: Final = """\
for process in /proc/[0-9]*; do
    [ $process = /proc/$$ ] || while read -r key value unit; do
        [ $key != VmRSS: ] || echo $value
    done < $process/status
done
"""


def memory(engine: DockerEngine, api: docker.APIClient, container: Container) -> tuple[int, float, float]:
    """Return the number of processes, the sum of their resident sizes, and what is charged, in MiB.

    Resident sizes count what processes have in common in each of them. Charged to the container is what it
    has written and its part of the kernel's memory, but hardly files that another one read before it.
    """
    sizes = [int(line) for line in run(engine, container, "sh", "-c", SCRIPT).split()]
    used = api.stats(container.id, stream=False, one_shot=True)["memory_stats"]
    details = used["stats"]
    files = details.get("total_inactive_file", details.get("inactive_file", 0))
    return len(sizes), sum(sizes) / 1024, (used["usage"] - files) / 2**20


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--topology", default="scenario-2.1")
    parser.add_argument("--settle", type=float, default=5.0, help="seconds to wait first (default: 5)")
    options = parser.parse_args()
    rows: list[list[str]] = []
    total = [0.0, 0.0]
    api = docker.APIClient(version="auto")
    with engine_and_image() as (engine, image):
        try:
            spec = ContainerSpec(
                name=SLEEPER, hostname=SLEEPER, image=image, labels={LABEL: SLEEPER}, endpoints=(),
                archive=b"", command=("sleep", "infinity"),
            )  # fmt: skip
            engine.start_container(engine.create_container(spec))
            idle = memory(engine, api, engine.containers({LABEL: SLEEPER})[0])
        finally:
            for each in engine.containers({LABEL: SLEEPER}):
                engine.remove_container(each.id)

        def row(name: str, roles: str, figures: tuple[int, float, float]) -> list[str]:
            processes, resident, charged = figures
            ratio = f"{resident / idle[1]:.0f}×"
            return [name, f"{processes}", f"{resident:.1f} MiB", f"{charged:.1f} MiB", ratio, roles]

        rows.append(row("`sleep` alone", "", idle))
        with lab(engine, image, options.topology, "bench-memory", []) as where:
            time.sleep(options.settle)
            for name, container in where.nodes.items():
                figures = memory(engine, api, container)
                total = [total[0] + figures[1], total[1] + figures[2]]
                rows.append(row(name, container.labels["org.testbed.roles"], figures))
        rows.append(["all nodes", "", f"{total[0]:.0f} MiB", f"{total[1]:.0f} MiB", "", ""])
        print_table(
            f"Idle memory of {options.topology}",
            ["node", "processes", "resident", "charged", "to `sleep`", "roles"],
            rows,
            markdown=options.markdown,
        )
        print_machine(engine)


if __name__ == "__main__":
    main()
