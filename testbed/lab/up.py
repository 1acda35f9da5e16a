"""Bringing a lab up: from what should run and what runs to a lab that is ready."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Network
from typing import Final

from testbed.engine import names
from testbed.engine.api import Container, Engine, EngineError
from testbed.engine.image import ensure_others
from testbed.errors import MachineError, NotReadyError, TestbedError, UsageError, raise_errors
from testbed.lab.addresses import SubnetPool, host_addresses, host_clashes, taken_subnets
from testbed.lab.build import Builder
from testbed.lab.choices import Choices, as_before, differences, keep_choices, recorded, remember
from testbed.lab.datapath import see_data
from testbed.lab.down import network_users, remove_labs
from testbed.lab.drift import Drift, find_drift, start_services
from testbed.lab.failures import mend
from testbed.lab.impairments import Wires, wanted
from testbed.lab.inside import run_inside
from testbed.lab.interrupt import Interrupted, Stopping, never, stoppable
from testbed.lab.limits import check_room
from testbed.lab.live import bring_up_to_date
from testbed.lab.lock import lab_lock
from testbed.lab.placement import place_nodes
from testbed.lab.plan import DesiredNode, Plan, make_plan
from testbed.lab.progress import Progress, Silent
from testbed.lab.ready import NodeWatch
from testbed.lab.routes import await_routes
from testbed.lab.secrets import lab_secrets
from testbed.lab.state import ActualLab, endpoints, find_lab, group
from testbed.lab.tasks import Task, run_tasks
from testbed.render import RenderedLab, render_lab
from testbed.topology.loaded import LoadedTopology

STARTERS: Final = 5  # at once; more would delay the slowest nodes
_UNPLUG: Final = 'for link in /sys/class/net/*; do ip link delete "${link##*/}"; done 2>/dev/null'
_UNPLUGGED: Final = 10.0  # seconds
READY_WITHIN: Final = 60.0  # seconds, from the last node's start to the last node's word


@dataclass(frozen=True, slots=True)
class BroughtUp:
    """What `bring_up` did."""

    lab: str
    created: int  # containers and networks
    removed: int
    mended: int  # services started again, links that had failed, networks given another delay
    seconds: float
    no_data: Mapping[str, str] = field(default_factory=dict)
    """Mobile node → why no packet came back from its correspondent; nothing for those that saw one."""

    @property
    def changed(self) -> bool:
        """Whether anything had to be done."""
        return bool(self.created or self.removed or self.mended)


def bring_up(
    engine: Engine,
    topology: LoadedTopology,
    *,
    lab: str,
    image: str,
    pool: IPv4Network,
    keep: bool = False,
    reset: Collection[str] = (),
    cpus: float | None = None,
    session_keys: bool = False,
    timeout: float = READY_WITHIN,
    progress: Progress | None = None,
    stopping: Stopping = never,
) -> BroughtUp:
    """Make a lab what its topology says and return when every node is ready.

    Run again, it does only what is missing, has changed, or has come to differ inside the nodes, and says
    why. The delay of networks with a hub is then seen on a packet, and each mobile node tried for a path to
    its correspondent. Interrupted (or `stopping`), it removes what it made if the lab is new. A lab that does
    not become ready is left, for people to look at. With `keep`, what a running lab was brought up with stays
    wherever the topology was loaded without another choice. `reset` names nodes in which nothing may be that
    was not configured; what differs in others then stays. `cpus` is how many processors each node may use
    (None: as many as before; 0: as many as there are). With `session_keys` the logs of the nodes have the
    keys of IKE and ESP. Raises `UsageError` (a bad name, another topology's or user's lab, another `up` of
    it, an earlier choice that is not valid any more), `TopologyError`, `MachineError` (engine, no room for a
    new lab, no netem, no ESP), `NotReadyError`, `Interrupted`.
    """
    names.check_lab_name(lab)
    progress = progress or Silent()
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
        before = recorded(engine, actual)
        if keep:
            topology = keep_choices(before, topology)
        clashes = host_clashes(topology, host_addresses())
        if clashes and engine.facts().kernel == platform.release():  # else the engine is on another machine
            raise_errors(clashes)
        choices = Choices.of(topology)
        places = place_nodes(topology, engine.members, actual.places)
        secrets = lab_secrets(engine, actual.containers)
        rendered = render_lab(
            topology, lab=lab, secrets=secrets, templates=topology.templates, session_keys=session_keys
        )
        ensure_others(engine, (node.image for node in rendered.nodes.values()), progress.say)
        running = {name: each for name, each in actual.nodes.items() if each.state == "running"}
        watch = NodeWatch(engine, lab, progress)
        drift = _differences_inside(engine, running, rendered, reset, stopping)
        # Labels are trusted with the template folder, and labels of containers that stay cannot change.
        relabel = before is not None and before.templates != choices.templates
        plan = make_plan(rendered, actual, image, drift, cpus=cpus, relabel=relabel, places=places)
        if not (actual.containers or actual.networks):
            check_room(engine, topology.topology, pool, everything)
        subnets = SubnetPool(pool, taken_subnets(everything), lab=lab)
        builder = Builder(engine, lab, topology.name, secrets, choices, plan, subnets)
        kept = {name: drift.get(name, Drift()) for name in plan.keep_nodes}
        earlier = as_before(before, topology)
        _explain(lab, plan, differences(earlier, topology), kept, progress)
        new = not (plan.keep_nodes or plan.keep_networks)
        try:
            for name, container in plan.keep_nodes.items():
                ready, found = rendered.nodes[name].ready, kept[name]
                watch.follow(name, container.id, ready, since=found.looked, restarted=found.stopped)
                start_services(engine, container, found)
                if found.failed:
                    mend(engine, container, found.failed)
            try:
                _carry_out(builder, watch, progress, stopping)
            except Exception:
                _clean_up(engine, lab, builder.run, new, progress)
                raise
            deadline = time.monotonic() + timeout
            try:
                watch.wait(deadline, stopping)
            except MachineError:  # nothing of it is worth looking at
                _clean_up(engine, lab, builder.run, new, progress)
                raise
            made = find_lab(engine, lab)
            fresh = {node.name for node in plan.create_nodes}
            if not plan.empty:
                bring_up_to_date(engine, {name: made.running_node(name) for name in kept}, rendered, stopping)
            await_routes(engine, made, topology, fresh, deadline, progress, stopping)
            wires = Wires(engine, made)
            try:
                treated = wires.bring_into_force(topology, earlier, fresh)
            except TestbedError:
                remember(engine, made.nodes, choices.with_impairments_of(before))
                raise
            if before and before.sets != choices.sets:
                remember(engine, plan.keep_nodes, choices)
            _see_delays(wires, topology, treated, fresh, progress, stopping)
            mended = sum(len(each.services) + len(each.failed) for each in kept.values()) + len(treated)
            changed = bool(mended or fresh)
            no_data = see_data(
                engine, made, topology, fresh=fresh, changed=changed, progress=progress, stopping=stopping
            )
        except KeyboardInterrupt:
            _clean_up(engine, lab, builder.run, new, progress)
            raise
        finally:
            watch.close()
    return BroughtUp(
        lab=lab,
        created=len(plan.create_nodes) + len(plan.create_networks),
        removed=len(plan.remove_containers) + len(plan.remove_networks),
        mended=mended,
        seconds=time.monotonic() - began,
        no_data={name: why for name, why in no_data.items() if why is not None},
    )


def _differences_inside(
    engine: Engine, running: Mapping[str, Container], rendered: RenderedLab, reset: Collection[str],
    stopping: Stopping,
) -> dict[str, Drift]:  # fmt: skip
    """What differs inside running nodes; of those to `reset`, if any, also what was added."""
    looked = {name: each for name, each in running.items() if name in reset or not reset}
    drift = find_drift(engine, looked, rendered.nodes, stopping)
    if not reset:
        return drift
    return {name: replace(each, changes=(*each.changes, *each.additions)) for name, each in drift.items()}


def _explain(
    lab: str,
    plan: Plan,
    choices: Sequence[str],
    kept: Mapping[str, Drift],
    progress: Progress,
) -> None:
    """Say what is going to change, and why; and which nodes cannot be compared."""
    restarts = [
        f"{name}: starting {', '.join(each.services)} again" for name, each in kept.items() if each.services
    ]
    restarts += [
        f"{name}: mending its link to {', '.join(each.failed)}, which testbed fail cut"
        for name, each in kept.items()
        if each.failed
    ]
    unknown = [f"{name}: cannot be compared: {each.unknown}" for name, each in kept.items() if each.unknown]
    if not plan.empty or choices or restarts or unknown:
        progress.say(f"lab {lab}: {plan}")
    for line in (*choices, *plan.explanation, *restarts, *unknown):
        progress.say(f"  {line}")


def _see_delays(
    wires: Wires, topology: LoadedTopology, changed: Collection[str], fresh: Collection[str],
    progress: Progress, stopping: Stopping,
) -> None:  # fmt: skip
    """See the delay of networks on a packet: of those that had another, and of those with a new hub."""
    for name, network in topology.topology.networks.items():
        if network.delay and (name in changed or network.hub in fresh):
            wires.see_delay(name, wanted(network), progress, stopping)


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
        watch.follow(node.name, id, node.rendered.ready, since=None)
        started.append(node.name)
        progress.show(f"started {len(started)} of {total} nodes")

    users = network_users(plan.remove_containers)
    tasks = [
        Task(each.id, partial(_remove, engine, each, bool(plan.keep_nodes)), alone=frozenset(endpoints(each)))
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


def _remove(engine: Engine, container: Container, others_stay: bool) -> None:
    """Remove a node; where others stay it loses its links first.

    The kernel takes a namespace apart some time after its last process has gone, a second and more on a busy
    machine. Until then it answers and forwards, with the addresses that the node's successor has too.
    """
    if others_stay and container.state == "running":
        with contextlib.suppress(EngineError, NotReadyError):  # paused, ended meanwhile, or hanging
            run_inside(engine, container, ["sh", "-c", _UNPLUG], within=_UNPLUGGED)
    engine.remove_container(container.id)
