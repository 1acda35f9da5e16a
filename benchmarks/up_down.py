"""How long a lab takes to be ready and to be gone, against the floor: the same containers, doing nothing.

The floor has the same networks and containers (image, endpoints, capabilities, limits, sysctls, files), made
by the bare Docker SDK with as many threads and in the same order; its containers run `sleep infinity`.
Rounds of lab and floor alternate.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import docker

from benchmarks.common import arguments, engine_and_image, note, print_machine, print_table
from testbed.engine.api import BASE_CAPABILITIES
from testbed.engine.docker import (
    BRIDGE_OPTIONS,
    LOG_CONFIG,
    TUN_DEVICE,
    DockerEngine,
    link_address,
)
from testbed.lab.addresses import SubnetPool, choose_pool, endpoint_addresses, prefix_length, taken_subnets
from testbed.lab.archive import node_archive
from testbed.lab.down import remove_labs
from testbed.lab.plan import DesiredNode, make_plan
from testbed.lab.state import ActualLab
from testbed.lab.tasks import WORKERS, Task, run_tasks
from testbed.lab.up import STARTERS, bring_up
from testbed.render import REDACTED, RenderedLab, render_lab
from testbed.topology.load import load_topology

LAB: Final = "bench-up"
FLOOR: Final = "bench-floor"


@dataclass
class Stages:
    """Notes when the last node was started, as progress texts report it."""

    began: float = field(default_factory=time.monotonic)
    started: float = 0.0

    def say(self, text: str) -> None:
        """Ignore it."""

    def show(self, text: str) -> None:
        """Remember when it said that all nodes are started."""
        if text.startswith("started"):
            self.started = time.monotonic() - self.began


class Floor:
    """The containers and networks of a lab, made and removed with nothing but the SDK's calls."""

    def __init__(self, engine: DockerEngine, rendered: RenderedLab, image: str) -> None:
        self._engine = engine
        self._api = docker.APIClient(version="auto", timeout=120, num_pools=1, max_pool_size=64)
        self._plan = make_plan(rendered, ActualLab(FLOOR, (), ()), image)
        self._networks: dict[str, str] = {}
        self._containers: dict[str, str] = {}

    def up(self) -> None:
        """Make and start everything."""
        pool = SubnetPool(choose_pool(), taken_subnets(self._engine.networks()), lab=FLOOR)
        users: dict[str, list[str]] = {}
        for node in self._plan.create_nodes:
            for network in node.rendered.links:
                users.setdefault(network, []).append(node.name)
        subnets = {name: pool.take(prefix_length(len(nodes))) for name, nodes in users.items()}
        free = {name: endpoint_addresses(subnet, ()) for name, subnet in subnets.items()}
        addresses = {
            node.name: {network: next(free[network]) for network in node.rendered.links}
            for node in self._plan.create_nodes
        }

        def make_network(name: str) -> None:
            ipam = docker.types.IPAMConfig(
                driver="default", pool_configs=[docker.types.IPAMPool(subnet=str(subnets[name]))]
            )
            made = self._api.create_network(
                f"{FLOOR}-{name}", driver="bridge", options=dict(BRIDGE_OPTIONS), ipam=ipam
            )
            self._networks[name] = made["Id"]

        making: list[tuple[tuple[int, int], Task]] = []
        for node in self._plan.create_nodes:
            needs = frozenset(f"network {link}" for link in node.rendered.links)
            action = partial(self._container, node, addresses[node.name])
            making.append(((node.stage, 0), Task(node.name, action, needs)))
        for each in self._plan.create_networks:
            making.append(((each.stage, 1), Task(f"network {each.name}", partial(make_network, each.name))))
        run_tasks([task for _, task in sorted(making, key=lambda pair: pair[0])], STARTERS)

    def _container(self, node: DesiredNode, addresses: dict[str, Any]) -> None:
        endpoints: list[tuple[str, dict[str, Any]]] = [
            (f"{FLOOR}-{network}", {"ipv4_address": str(address), "mac_address": link_address(address)})
            for network, address in addresses.items()
        ]
        first, *others = endpoints
        made = self._api.create_container(
            node.image,
            command=["sleep", "infinity"],
            name=f"{FLOOR}-{node.name}",
            hostname=node.name,
            host_config=self._api.create_host_config(
                network_mode=first[0],
                cap_add=list(BASE_CAPABILITIES),
                devices=[f"{TUN_DEVICE}:{TUN_DEVICE}:rwm"],
                sysctls=dict(node.rendered.sysctls),
                mem_limit=512 * 2**20,
                pids_limit=512,
                log_config=LOG_CONFIG,
            ),
            networking_config={"EndpointsConfig": {first[0]: self._api.create_endpoint_config(**first[1])}},
            use_config_proxy=False,
        )
        id = self._containers[node.name] = made["Id"]
        for name, settings in others:
            self._api.connect_container_to_network(id, name, **settings)
        self._api.put_archive(id, "/", node_archive(node.rendered.files))
        self._api.start(id)

    def down(self) -> None:
        """Remove everything: like `testbed down`, no two containers of one network at the same moment."""
        links = {node.name: frozenset(node.rendered.links) for node in self._plan.create_nodes}
        tasks = [
            Task(
                f"network {name}",
                partial(self._api.remove_network, id),
                frozenset(node for node, networks in links.items() if name in networks),
            )
            for name, id in self._networks.items()
        ]
        tasks += [
            Task(name, partial(self._api.remove_container, id, v=True, force=True), alone=links[name])
            for name, id in sorted(self._containers.items(), key=lambda pair: -len(links[pair[0]]))
        ]
        run_tasks(tasks, WORKERS)
        self._networks.clear()
        self._containers.clear()


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--topology", default="scenario-2.1")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {key: [] for key in ("up", "started", "down", "floor up", "floor down")}
    loaded = load_topology(options.topology, sets=[])
    rendered = render_lab(loaded, lab=FLOOR, secrets=REDACTED, templates=None)
    with engine_and_image() as (engine, image):
        floor = Floor(engine, rendered, image)
        for round in range(options.rounds + 1):  # the first one warms the engine up and is not counted
            try:
                ours: dict[str, float] = {}
                stages = Stages()
                ours["up"] = bring_up(
                    engine, loaded, lab=LAB, image=image, pool=choose_pool(), progress=stages
                ).seconds
                ours["started"] = stages.started
            finally:
                ours["down"] = timed(lambda: remove_labs(engine, LAB))
            try:
                ours["floor up"] = timed(floor.up)
            finally:
                ours["floor down"] = timed(floor.down)
            note("  ".join(f"{key} {value:.2f}" for key, value in ours.items()))
            if round:
                for key, value in ours.items():
                    seconds[key].append(value)
        middle = {key: statistics.median(values) for key, values in seconds.items()}

        def row(name: str, key: str, base: str, target: str) -> list[str]:
            low, high = min(seconds[key]), max(seconds[key])
            ratio = middle[key] / middle[base]
            return [name, f"{middle[key]:.2f} s", f"{low:.2f}–{high:.2f}", f"{ratio:.2f}×", target]

        size = f"{len(rendered.nodes)} nodes on {len(loaded.topology.networks)} networks"
        print_table(
            f"Up and down: {loaded.name}, {size}, median of {options.rounds} rounds",
            ["", "median", "range", "to the floor", "target"],
            [
                row("floor: create and start `sleep`", "floor up", "floor up", ""),
                row("up: last node started", "started", "floor up", ""),
                row("up: ready (routes, ESP up, registered)", "up", "floor up", "≤ 2.0×"),
                row("floor: remove", "floor down", "floor down", ""),
                row("down", "down", "floor down", "≤ 1.3×"),
            ],
            markdown=options.markdown,
        )
        print_machine(engine)


if __name__ == "__main__":
    main()
