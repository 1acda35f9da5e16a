"""What sessions of tests leave in the engine: known by its label, and removed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from testbed.engine import names
from testbed.engine.api import Container, Engine, EngineError, Network
from testbed.errors import TestbedError, UsageError
from testbed.lab.down import remove_labs
from testbed.lab.lock import lab_lock
from testbed.lab.processes import Process

_PATIENCE: Final = 20.0
"""Seconds for the workers of a dead session to end: pytest-xdist gives them 15."""
_PAUSE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a container or network is: that of a session, and made by a worker of it, or by itself."""

    session: Process
    maker: Process

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """Read a label; None for a label that no session wrote."""
        session, maker = (Process.parse(part) for part in (text + ";").split(";")[:2])
        return cls(session, maker) if session and maker else None

    @property
    def label(self) -> str:
        """As a label has it."""
        return f"{self.session};{self.maker}"

    @property
    def orphaned(self) -> bool:
        """Whether the session has ended and the maker has not."""
        return self.session.dead and not self.maker.dead


def remove_dead(engine: Engine) -> list[str]:
    """Remove what sessions left that were killed; return what could not be removed, and why.

    A worker that goes on without its session may make more: it is given time to end.
    """
    give_up = time.monotonic() + _PATIENCE
    while True:
        problems, owners = _remove(engine, lambda owner: owner.session.dead)
        if not any(owner.orphaned for owner in owners) or time.monotonic() > give_up:
            return problems
        time.sleep(_PAUSE)


def remove_session(engine: Engine, session: Process) -> list[str]:
    """Remove all that a session made, whatever process of it; return what could not be removed, and why."""
    return _remove(engine, lambda owner: owner.session == session)[0]


def _remove(engine: Engine, unwanted: Callable[[Owner], bool]) -> tuple[list[str], set[Owner]]:
    owners: set[Owner] = set()
    labs: dict[str, None] = {}
    containers: list[Container] = []
    networks: list[Network] = []

    def is_unwanted(labels: dict[str, str]) -> bool:
        owner = Owner.parse(labels[names.SESSION])
        if owner is None or not unwanted(owner):
            return False
        owners.add(owner)
        if lab := labels.get(names.LAB):
            labs[lab] = None
        return not lab

    label = {names.SESSION: ""}
    containers = [each for each in engine.containers(label) if is_unwanted(dict(each.labels))]
    networks = [each for each in engine.networks(label) if is_unwanted(dict(each.labels))]

    def remove_lab(lab: str) -> str | None:
        # Another session at the same moment, or a worker that is about to stop, may be at it.
        with contextlib.suppress(UsageError), lab_lock(lab, engine.address):
            try:
                remove_labs(engine, lab)
            except TestbedError as error:
                return str(error)
        return None

    with ThreadPoolExecutor(4) as threads:
        problems = [problem for problem in threads.map(remove_lab, labs) if problem]
    for container in containers:
        with contextlib.suppress(EngineError):
            engine.remove_container(container.id)
    for network in networks:
        with contextlib.suppress(EngineError):  # in use by what somebody attached by hand
            engine.remove_network(network.id)
    return problems, owners
