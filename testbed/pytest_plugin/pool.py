"""The labs of a session of tests: up to so many at once, shared by all its processes.

A lab is in a slot, and a slot is a file in the session's temporary folder. The process whose test uses the
lab holds the file's lock, which the kernel frees however the process ends. The file says what the lab is.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final, Self

from testbed.agreed import ROAM, Op
from testbed.engine import names
from testbed.engine.api import Engine
from testbed.engine.channel import ChannelEngine
from testbed.engine.image import ensure_node_image
from testbed.engine.labelled import labelled
from testbed.engine.provision import reach_engine
from testbed.errors import TestbedError
from testbed.experiment.claims.observer import Observer
from testbed.experiment.claims.perform import Performer
from testbed.experiment.claims.reset import reset
from testbed.lab.access import LabAccess
from testbed.lab.addresses import choose_pool
from testbed.lab.captures import Captures
from testbed.lab.daemons import ask
from testbed.lab.down import remove_labs
from testbed.lab.leftovers import Owner, remove_dead, remove_session
from testbed.lab.plan import make_plan
from testbed.lab.secrets import lab_secrets
from testbed.lab.state import ActualLab, read_labs
from testbed.lab.up import bring_up
from testbed.pytest_plugin.laboratory import Lab, lab_key
from testbed.render import render_lab
from testbed.topology.loaded import LoadedTopology

_PAUSE: Final = 0.1  # seconds between two looks for a lab that nobody uses


@dataclass(frozen=True, slots=True)
class State:
    """What is in a slot."""

    lab: str = ""
    """The name of its lab; "" for none."""
    topology: str = ""
    """The name of the lab's topology."""
    key: str = ""
    """What the lab was made from; "" where it may be anything."""
    clean: bool = False
    """Whether it is as it was made, but for what a reset puts right."""


class Slot:
    """Room for one lab, locked."""

    def __init__(self, file: Path, number: int) -> None:
        """Lock it. Raises `BlockingIOError` where another process, or another test of this one, has it."""
        self.number = number
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise
        text = os.pread(self._descriptor, 1 << 16, 0)
        self.state = State(**json.loads(text)) if text else State()

    @classmethod
    def free(cls, file: Path, number: int) -> Self | None:
        """Lock it if nobody has it."""
        try:
            return cls(file, number)
        except BlockingIOError:
            return None

    def write(self, state: State) -> None:
        """Say what is in it, for whoever has it next."""
        text = json.dumps({name: getattr(state, name) for name in State.__slots__}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)
        self.state = state

    def close(self) -> None:
        """Give it back."""
        os.close(self._descriptor)


class Pool:
    """The labs of a session, as one of its processes sees them."""

    def __init__(
        self, folder: Path, owner: Owner, *, jobs: int, evidence: Callable[[], Path], keep: bool = False
    ) -> None:
        """`folder` is the same for all processes of the session, and for no other session.

        `evidence` is the folder for that of the present test.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.evidence = evidence
        self.owner = owner
        self.lent: list[Lab] = []
        """The labs that tests of this process use now."""
        self.problems: list[str] = []
        """What of a dead session could not be removed."""
        self._jobs = jobs
        self._keep = keep
        self._slots: dict[Lab, Slot] = {}

    @cached_property
    def engine(self) -> Engine:
        """The engine; what it makes for this session does not outlive it. Raises `EngineError`."""
        engine: Engine = reach_engine(print)
        self.problems = remove_dead(engine)
        return engine if self._keep else labelled(engine, {names.SESSION: self.owner.label})

    @cached_property
    def _through(self) -> ChannelEngine:
        """The same engine, for the commands in labs."""
        return ChannelEngine(self.engine)

    @cached_property
    def image(self) -> str:
        """The name of the node image, built if it is not there. Raises `MachineError`."""
        # The wrapper passes on what the engine knows besides `Engine`.
        return ensure_node_image(self.engine, print).name  # type: ignore[arg-type]

    @cached_property
    def _addresses(self) -> IPv4Network:
        return choose_pool()

    @contextmanager
    def lend(self, topology: LoadedTopology) -> Iterator[LabAccess]:
        """A lab that is what a topology says, for the runs of claims; nobody else has it meanwhile."""
        lab = self.take(topology)
        try:
            yield lab.access
        finally:
            self.give_back(lab)

    def take(self, topology: LoadedTopology) -> Lab:
        """Wait for a lab, make it what a topology says, and set it back to the known state.

        Where this process holds a lab already, it does not wait: two tests that each wait for the other's lab
        would wait for ever. Raises `TestbedError`, `KeyboardInterrupt` where the session has died.
        """
        key = lab_key(topology)
        slot = self._slot(topology.name, key)
        try:
            lab = self._ready(slot, topology, key)
        except BaseException:
            slot.close()
            raise
        self._slots[lab] = slot
        self.lent.append(lab)
        return lab

    def give_back(self, lab: Lab) -> None:
        """Leave a lab to the next test that asks for the same."""
        self.lent.remove(lab)
        slot = self._slots.pop(lab)
        try:
            lab.close()
            if slot.number > self._jobs and not self._keep:
                self._remove(slot)
            else:
                state = slot.state
                slot.write(State(state.lab, state.topology, state.key, clean=not lab.changed))
        finally:
            slot.close()

    def close(self) -> list[str]:
        """Give back every lab; what the session made is removed where this process is its last.

        Returns what could not be removed, and why. Raises `EngineError`.
        """
        for lab in list(self.lent):
            self.give_back(lab)
        last = self.owner.session == self.owner.maker or self.owner.session.dead
        self._through.close()
        problems = remove_session(self.engine, self.owner.session) if last and not self._keep else []
        self.engine.close()
        return problems

    def _slot(self, topology: str, key: str) -> Slot:
        """The slot that needs least work, of those that nobody uses."""

        def work(slot: Slot) -> int:
            state = slot.state
            return 0 if state.key == key else 1 if not state.lab else 2 if state.topology == topology else 3

        while True:
            found = [slot for number in range(1, self._jobs + 1) if (slot := self._free(number))]
            found += [slot for slot in [self._beyond()] if self._slots and not found]
            if found:
                best = min(found, key=work)
                for slot in found:
                    if slot is not best:
                        slot.close()
                return best
            self._go_on()
            time.sleep(_PAUSE)

    def _free(self, number: int) -> Slot | None:
        return Slot.free(self.folder / f"slot-{number}", number)

    def _beyond(self) -> Slot:
        number = self._jobs
        while True:
            number += 1
            if slot := self._free(number):
                return slot

    def _go_on(self) -> None:
        if self.owner.orphaned:
            raise KeyboardInterrupt

    def _ready(self, slot: Slot, topology: LoadedTopology, key: str) -> Lab:
        """Its lab as it has to be, with as little work as possible."""
        actual = self._actual(slot)
        as_asked = slot.state.key == key and slot.state.clean
        if not (as_asked and actual and all(each.state == "running" for each in actual.containers)):
            actual = self._bring_up(slot, actual, topology, key)
        try:
            return self._begin(slot, actual, topology)
        except TestbedError:
            if not as_asked:
                raise
            return self._begin(slot, self._bring_up(slot, actual, topology, key), topology)

    def _begin(self, slot: Slot, actual: ActualLab | None, topology: LoadedTopology) -> Lab:
        assert actual is not None
        slot.write(State(actual.name, topology.name, slot.state.key))
        containers = {name: each.id for name, each in actual.nodes.items()}
        access = LabAccess(self._through, actual.name, topology, containers)
        lab = Lab(access, lend=self.lend, folder=self.evidence)
        try:
            access.open()
            actor = Performer(access, Observer(access, Captures(access, ()), access.log.mark()))
            for node in topology.mobile_nodes:
                if any(service.control == ROAM for service in topology.daemons(node)):
                    reset(actor, node)
            lab.begin()
        except BaseException:
            lab.close()
            raise
        return lab

    def _bring_up(
        self, slot: Slot, actual: ActualLab | None, topology: LoadedTopology, key: str
    ) -> ActualLab | None:
        """Make a lab from nothing, or from the slot's; if that fails, nothing of it is left."""
        if actual and slot.state.key != key:
            if self._takes_turns(actual, topology):
                self._take_leave(actual)
            else:
                self._remove(slot)
        name = slot.state.lab or f"pytest-{secrets.token_hex(4)}"
        slot.write(State(name, topology.name))
        try:
            bring_up(
                self._through, topology, lab=name, image=self.image, pool=self._addresses,
                stopping=lambda: self.owner.orphaned,
            )  # fmt: skip
        except TestbedError:
            if not self._keep:
                self._remove(slot)
            raise
        slot.write(State(name, topology.name, key))
        return self._actual(slot)

    def _takes_turns(self, actual: ActualLab, topology: LoadedTopology) -> bool:
        """Whether only mobile nodes would be replaced.

        After another router's or agent's coming the others need seconds to find their ways.
        """
        if actual.topology != topology.name:
            return False
        keys = lab_secrets(self._through, actual.containers)
        rendered = render_lab(topology, lab=actual.name, secrets=keys, templates=topology.templates)
        plan = make_plan(rendered, actual, self.image)
        replaced = {node.name for node in plan.create_nodes}
        return not plan.create_networks and not plan.remove_networks and replaced <= {*topology.mobile_nodes}

    def _take_leave(self, actual: ActualLab) -> None:
        """End what mobile nodes have with gateways, which would go on asking for a node that is replaced."""
        for node in actual.mobile_nodes:
            with suppress(TestbedError):  # what does not answer has nothing, or is mended
                ask(self._through, actual.running_node(node), ROAM, {"op": Op.FORGET})

    def _actual(self, slot: Slot) -> ActualLab | None:
        name = slot.state.lab
        return read_labs(self.engine, name).get(name) if name else None

    def _remove(self, slot: Slot) -> None:
        if slot.state.lab:
            remove_labs(self._through, slot.state.lab)
        slot.write(State())
