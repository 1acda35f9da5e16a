"""Removing labs, from labels alone: it does not matter what made them, or how far it came.

No two containers on one network are removed at the same moment: engines before 28.1 count the endpoints of a
network, may lose count when several go at once, and then never let go of the network until restarted.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from testbed.engine import names
from testbed.engine.api import Container, Engine, InUseError, Network
from testbed.errors import TestbedError
from testbed.lab.progress import Progress, Silent
from testbed.lab.state import endpoints
from testbed.lab.tasks import Task, run_tasks

_PATIENCE: Final = 15.0  # seconds without anything going away before we give up
_IN_USE: Final = (
    "docker network inspect shows what is attached; if that is nothing, the engine has miscounted "
    "(engines before 28.1 may): restart it, then run testbed down again"
)
_PAUSE: Final = 0.1  # seconds between attempts
_STRAGGLERS: Final = 2.0  # seconds in which the engine finishes what a killed `up` had asked for last


@dataclass
class Removed:
    """What was removed, by name in the engine."""

    containers: set[str] = field(default_factory=set)
    networks: set[str] = field(default_factory=set)
    vteps: set[str] = field(default_factory=set)
    """What laid the wires between engines, by id: on each engine it has the same name."""

    def __len__(self) -> int:
        return len(self.containers) + len(self.networks) + len(self.vteps)

    def add(self, other: Removed) -> None:
        """Add what else was removed."""
        self.containers |= other.containers
        self.networks |= other.networks
        self.vteps |= other.vteps


def remove_labs(
    engine: Engine,
    lab: str | None,
    *,
    owner: str | None = None,
    run: str | None = None,
    study: str | None = None,
    progress: Progress | None = None,
    patience: float = _PATIENCE,
) -> Removed:
    """Remove a lab, or those of a pattern (None: every lab), until nothing of it is listed any more.

    Where no whole lab was running, an `up` may have been killed and the engine still be making what it asked
    for: then nothing must show up for a while. `owner` limits it to what is theirs, `run` to what one `up`
    made, `study` to what was made for a study. Raises `TestbedError` naming what cannot be removed and why.
    """
    several = lab is None or names.is_pattern(lab)
    labels = {names.LAB: "" if several else str(lab)}
    limits = {names.OWNER: owner, names.RUN: run, names.STUDY: study}
    labels |= {key: value for key, value in limits.items() if value}
    progress = progress or Silent()
    sweep = _Sweep(engine, progress)

    def listed() -> tuple[list[Container], list[Network]]:
        return (
            [each for each in engine.containers(labels) if names.matches(each.labels[names.LAB], lab)],
            [each for each in engine.networks(labels) if names.matches(each.labels[names.LAB], lab)],
        )

    containers, networks = listed()
    whole = bool(containers) and all(each.state == "running" for each in containers)
    quiet = 0.0 if run or whole else _STRAGGLERS  # in which nothing may show up
    quiet_until = time.monotonic() + quiet
    give_up = time.monotonic() + patience
    fewest: int | None = None
    while True:
        left: list[Container | Network] = [*containers, *networks]
        if not left:
            if time.monotonic() >= quiet_until:
                return sweep.removed
            progress.show("making sure that nothing else shows up")
            time.sleep(_PAUSE)
        else:
            quiet_until = time.monotonic() + quiet
            if fewest is None or len(left) < fewest:
                fewest, give_up = len(left), time.monotonic() + patience
            elif time.monotonic() > give_up:
                why = f": {sweep.problem.message}" if sweep.problem else ""
                raise TestbedError(
                    f"could not remove {', '.join(each.name for each in left)}{why}",
                    hint=_IN_USE
                    if isinstance(sweep.problem, InUseError)
                    else f"testbed down {shlex.quote(lab) if lab else '--all'}",
                )
            else:
                time.sleep(_PAUSE)
            sweep.remove(containers, networks)
        containers, networks = listed()


class _Sweep:
    """Removes what it can of what is listed, each network as soon as its last container has gone."""

    def __init__(self, engine: Engine, progress: Progress) -> None:
        self._engine = engine
        self._progress = progress
        self.removed = Removed()
        self.problem: TestbedError | None = None

    def remove(self, containers: Sequence[Container], networks: Sequence[Network]) -> None:
        users = network_users(containers)
        nodes = sum(names.VTEP not in each.labels for each in containers)
        # A network as soon as it may go, and first the containers that keep most networks.
        tasks = [
            Task(
                each.id,
                partial(self._try, self._engine.remove_network, each),
                users.get(each.name, frozenset()),
            )
            for each in networks
        ]
        tasks += [
            Task(
                each.id,
                partial(self._try, self._engine.remove_container, each),
                # What lays the wires goes last.
                frozenset(task.name for task in tasks) if names.VTEP in each.labels else frozenset(),
                alone=frozenset(endpoints(each)),
            )
            for each in sorted(containers, key=lambda each: -len(endpoints(each)))
        ]
        self.problem = None
        self._progress.show(f"removing {nodes} nodes and {len(networks)} networks")
        run_tasks(tasks)

    def _try(self, remove: Callable[[str], None], what: Container | Network) -> None:
        try:
            remove(what.id)
        except TestbedError as error:  # in use, half removed by somebody else: the next round sees
            self.problem = error
        else:
            if isinstance(what, Network):
                self.removed.networks.add(what.name)
            elif names.VTEP in what.labels:
                self.removed.vteps.add(what.id)
            else:
                self.removed.containers.add(what.name)


def network_users(containers: Sequence[Container]) -> dict[str, frozenset[str]]:
    """Return, by a network's name in the engine, the ids of the containers that have to go before it."""
    users: dict[str, set[str]] = {}
    for container in containers:
        for network in endpoints(container):
            name = names.network_name(container.labels[names.LAB], network)
            users.setdefault(name, set()).add(container.id)
    return {name: frozenset(ids) for name, ids in users.items()}
