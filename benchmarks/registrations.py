"""Registrations per second of a home agent, against a bare UDP echo in Python.

The real daemon runs in a container of the node image, with its tunnels and its journal. A client in the same
container sends requests signed beforehand, a window of them at a time, and the next one for each reply. The
echo answers the same client and the same datagrams. The first registrations are measured at the beginning and
at the end of filling the table, too: they must not take longer with many bindings.
"""

from __future__ import annotations

import json
import time
from ipaddress import IPv4Address
from typing import Any, Final

from benchmarks.common import arguments, engine_and_image, load_file, print_machine, print_table, run
from benchmarks.memory import memory
from testbed.engine.api import Container, ContainerSpec
from testbed.engine.docker import DockerEngine
from testbed.lab.archive import node_archive
from testbed.lab.daemons import ask
from testbed.render import RenderedFile

NAME: Final = "bench-registrations"
LABEL: Final = "org.testbed.benchmark"
CLIENT: Final = "/tmp/client.py"
FIRST: Final = IPv4Address("10.99.0.10")  # home address of the first mobile node
KEY: Final = "00112233445566778899aabbccddeeff"
CONFIGURATION: Final = """\
control = "/run/testbed/home-agent.sock"
address = "10.98.0.1"
[home]
prefix = "10.99.0.0/16"
[replay]
tolerance = 3600
"""
"""Requests are signed before the first is sent: on a busy machine more than the usual 7 s may lie between,
and the agent would refuse them as replays (code 133)."""
START: Final = """\
ip address add 10.98.0.1/32 dev lo && ip address add 10.98.0.2/32 dev lo && ip link set lo up &&
exec python3 -m testbed.mobileip home-agent --config /etc/mobileip/home-agent.toml
"""


def security(nodes: int) -> str:
    """Return the security associations of so many mobile nodes."""
    return "".join(
        f'[[security]]\nmobile-node = "{FIRST + number}"\nspi = 256\nkey = "{KEY}"\n'
        for number in range(nodes)
    )


def start(engine: DockerEngine, image: str, nodes: int, processes: int) -> Container:
    """Start the home agent; return its container when it is ready."""
    configuration = f"processes = {processes}\n{CONFIGURATION}{security(nodes)}"
    files = {
        "/etc/mobileip/home-agent.toml": RenderedFile(configuration, 0o600),
        CLIENT: RenderedFile(load_file("registration_client.py")),
    }
    spec = ContainerSpec(
        name=NAME,
        hostname=NAME,
        image=image,
        labels={LABEL: NAME},
        endpoints=(),
        archive=node_archive(files),
        command=("sh", "-c", START),
    )
    id = engine.create_container(spec)
    engine.start_container(id)
    for line in engine.logs(id, follow=True):
        if '"ready"' in line.text:
            return engine.containers({LABEL: NAME})[0]
    raise RuntimeError("the home agent did not start: docker logs " + NAME)


def client(engine: DockerEngine, container: Container, *options: str) -> dict[str, Any]:
    """Run the client; return what it measured."""
    return dict(json.loads(run(engine, container, "python3", CLIENT, *options)))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--nodes", type=int, default=10_000, help="mobile nodes (default: 10000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of renewals (default: 3)")
    parser.add_argument("--window", type=int, default=64, help="requests under way at once (default: 64)")
    parser.add_argument("--processes", type=int, default=1, help="of the home agent (default: 1)")
    options = parser.parse_args()
    few = max(1, options.nodes // 10)

    def some(nodes: int) -> tuple[str, ...]:
        fixed = ("--window", str(options.window), "--key", KEY)
        return "--nodes", str(nodes), "--first", str(FIRST), *fixed

    common = some(options.nodes)
    with engine_and_image() as (engine, image):
        container: Container | None = None
        try:
            container = start(engine, image, options.nodes, options.processes)
            idle = memory(engine, container)[1]
            echo = [client(engine, container, *some(few), "--echo")]
            new, renewals, moves = [client(engine, container, *common)], [], []
            full = memory(engine, container)[1]
            for round in range(options.rounds):
                if round:
                    ask(engine, container, "home-agent", {"op": "flush"})
                    new.append(client(engine, container, *common))
                there = (*common, "--care-of", f"10.97.{round}.1")
                moves.append(client(engine, container, *there))
                renewals.append(client(engine, container, *there))
                echo.append(client(engine, container, *some(few), "--echo"))
                time.sleep(0.2)
        finally:
            for each in engine.containers({LABEL: NAME}):
                engine.remove_container(each.id)
        base = min(each["cpu_us"] for each in echo)

        def row(name: str, runs: list[dict[str, Any]]) -> list[str]:
            best = max(runs, key=lambda each: each["rate"])
            lost = sum(each["lost"] for each in runs)
            cpu = min(each["cpu_us"] for each in runs)
            return [
                name,
                f"{best['rate']:,.0f}",
                f"{best['median_ms']:.2f} ms",
                f"{cpu:.0f} µs",
                f"{lost}",
                f"{cpu / base:.0f}×",
            ]

        title = (
            f"Registrations: {options.nodes:,} mobile nodes, {options.window} requests under way, best round"
        )
        print_table(
            title if options.processes == 1 else f"{title}; {options.processes} processes",
            ["", "per second", "reply after", "CPU time", "lost", "CPU time to the echo's"],
            [
                row("UDP echo in Python", echo),
                row("first registration (tunnel made)", new),
                row("renewal", renewals),
                row("another care-of address (tunnel changed)", moves),
            ],
            markdown=options.markdown,
        )
        first = max(new, key=lambda each: each["rate"])
        ratio = first["rate"] / max(each["rate"] for each in renewals)
        begin, end = first["first_tenth"], first["last_tenth"]
        print(f"\nFirst registrations to renewals: {ratio:.2f} (target: 0.9)")
        print(f"First registrations a second: {begin:,.0f} in the first tenth, {end:,.0f} in the last")
        print(f"Memory of the agent: {idle:.1f} MiB when ready, {full:.1f} MiB with all bindings")
        print_machine(engine)


if __name__ == "__main__":
    main()
