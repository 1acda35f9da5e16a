"""Bringing a lab up: from what should run and what runs to a lab that is ready."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from testbed.engine import names
from testbed.engine.api import Engine
from testbed.errors import UsageError, raise_errors
from testbed.lab.addresses import SubnetPool, host_addresses, host_clashes, taken_subnets
from testbed.lab.build import Builder
from testbed.lab.down import network_users, remove_labs
from testbed.lab.interrupt import Interrupted, Stopping, never, stoppable
from testbed.lab.lock import lab_lock
from testbed.lab.plan import DesiredNode, make_plan
from testbed.lab.progress import Progress, Silent
from testbed.lab.ready import NodeWatch
from testbed.lab.secrets import lab_secrets
from testbed.lab.state import ActualLab, endpoints, group
from testbed.lab.tasks import Task, run_tasks
from testbed.render import render_lab
from testbed.topology.loaded import LoadedTopology
from testbed.topology.values import Expected, parse_duration

STARTERS: Final = 5  # at once: with more, the engine lets the nodes that are waited for longest wait as well
READY_WITHIN: Final = 60.0  # seconds, from the last node's start to the last node's word


def parse_timeout(text: str) -> float:
    """Return the seconds of a span of time written as in topologies (`60s`). Raises `UsageError`."""
    try:
        return parse_duration(text) / 1000
    except Expected as error:
        raise UsageError(f"--timeout {text}: expected {error.expected}", hint=error.hint) from error


@dataclass(frozen=True, slots=True)
class BroughtUp:
    """What `bring_up` did."""

    lab: str
    created: int  # containers and networks
    removed: int
    seconds: float

    @property
    def changed(self) -> bool:
        """Whether anything had to be done."""
        return bool(self.created or self.removed)


def bring_up(
    engine: Engine,
    topology: LoadedTopology,
    *,
    lab: str,
    image: str,
    pool: IPv4Network,
    templates: Path | None = None,
    cpus: float | None = None,
    timeout: float = READY_WITHIN,
    progress: Progress | None = None,
    stopping: Stopping = never,
) -> BroughtUp:
    """Make a lab what its topology says and return when every node is ready.

    Run again, it does only what is missing or has changed. Interrupted (or `stopping`), it removes what it
    made if the lab is new. A lab that does not become ready is left, for people to look at. `cpus` is how
    many processors each node may use (None: as many as before). Raises `UsageError` (a bad name, another
    topology's or user's lab, another `up` of it), `TopologyError`, `MachineError` (engine, address pool),
    `NotReadyError`, `Interrupted`.
    """
    names.check_lab_name(lab)
    progress = progress or Silent()
    clashes = host_clashes(topology, host_addresses())
    if clashes and engine.facts().kernel == platform.release():  # else the engine is on another machine
        raise_errors(clashes)
    with stoppable(), lab_lock(lab, engine.address):
        began = time.monotonic()
        everything = engine.networks()
        actual = group(engine.containers({names.LAB: lab}), everything).get(lab, ActualLab(lab, (), ()))
        if actual.topology not in ("", topology.name):
            raise UsageError(
                f"lab {lab} was brought up from topology {actual.topology}, not {topology.name}",
                hint=f"choose another name with --name, or remove it first: testbed down {lab}",
            )
        if actual.owner not in ("", names.owner()):
            raise UsageError(
                f"lab {lab} belongs to {actual.owner}",
                hint="choose another name for yours with --name; testbed status lists the labs",
            )
        secrets = lab_secrets(engine, actual.containers)
        rendered = render_lab(topology, lab=lab, secrets=secrets, templates=templates)
        plan = make_plan(rendered, actual, image, cpus=cpus)
        subnets = SubnetPool(pool, taken_subnets(everything), lab=lab)
        builder = Builder(engine, lab, topology.name, secrets, plan, subnets)
        watch = NodeWatch(engine, lab, progress)
        if not plan.empty:
            progress.say(f"lab {lab}: {plan}")
        new = not (plan.keep_nodes or plan.keep_networks)
        try:
            for name, container in plan.keep_nodes.items():
                watch.follow(name, container.id, rendered.nodes[name].ready, fresh=False)
            try:
                _carry_out(builder, watch, progress, stopping)
            except Exception:
                _clean_up(engine, lab, builder.run, new, progress)
                raise
            watch.wait(time.monotonic() + timeout, stopping)
        except KeyboardInterrupt:
            _clean_up(engine, lab, builder.run, new, progress)
            raise
        finally:
            watch.close()
    return BroughtUp(
        lab=lab,
        created=len(plan.create_nodes) + len(plan.create_networks),
        removed=len(plan.remove_containers) + len(plan.remove_networks),
        seconds=time.monotonic() - began,
    )


def _clean_up(engine: Engine, lab: str, run: str, new: bool, progress: Progress) -> None:
    """Remove what this run made of a new lab; of a lab that was there before, say that it is half changed."""
    if not new:
        progress.say(f"lab {lab} is partly changed: testbed up finishes that, testbed down {lab} removes it")
        return
    try:
        progress.show("removing what was made")
        removed = remove_labs(engine, lab, run=run, progress=progress)
        if removed:
            progress.say(f"lab {lab}: removed what was made")
    except KeyboardInterrupt:
        left = [each.name for each in engine.containers({names.LAB: lab})]
        left += [each.name for each in engine.networks({names.LAB: lab})]
        what = ", ".join(left) or "nothing that the engine lists"
        raise Interrupted(f"interrupted again; left behind: {what}", hint=f"testbed down {lab}") from None


def _carry_out(builder: Builder, watch: NodeWatch, progress: Progress, stopping: Stopping) -> None:
    """Remove and create in parallel, each thing as soon as what it needs is there."""
    engine, plan = builder.engine, builder.plan
    total = len(plan.create_nodes)
    started: list[str] = []

    def create_node(node: DesiredNode) -> None:
        id = builder.create_node(node)
        engine.start_container(id)
        watch.follow(node.name, id, node.rendered.ready, fresh=True)
        started.append(node.name)
        progress.show(f"started {len(started)} of {total} nodes")

    users = network_users(plan.remove_containers)
    tasks = [
        Task(each.id, partial(engine.remove_container, each.id), alone=frozenset(endpoints(each)))
        for each in plan.remove_containers
    ]
    tasks += [
        Task(each.id, partial(engine.remove_network, each.id), users.get(each.name, frozenset()))
        for each in plan.remove_networks
    ]
    # A name or a throwaway address is free again when what had it is gone.
    gone = frozenset(task.name for task in tasks)
    making = [
        (
            (node.stage, 0),  # as soon as its networks are there: it has more to do yet than the next network
            Task(
                f"node {node.name}",
                partial(create_node, node),
                gone | {f"network {network}" for network in node.rendered.links},
            ),
        )
        for node in plan.create_nodes
    ]
    making += [
        ((each.stage, 1), Task(f"network {each.name}", partial(builder.create_network, each), gone))
        for each in plan.create_networks
    ]
    tasks += [task for _, task in sorted(making, key=lambda each: each[0])]
    run_tasks(tasks, STARTERS, stopping)
