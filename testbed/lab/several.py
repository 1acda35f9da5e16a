"""Several labs of one topology, for a class: brought up side by side within bounds, and nothing left behind.

Each lab is brought up by `bring_up`, as if it were alone. A few at once: the processes of one lab start while
those of another wait for timers, and more would delay all of them beyond what `--timeout` grants.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final, Protocol

from testbed.engine import names
from testbed.engine.api import Engine
from testbed.errors import MachineError, TestbedError
from testbed.lab.down import remove_labs
from testbed.lab.interrupt import Interrupted, Stopping, stoppable
from testbed.lab.limits import check_room
from testbed.lab.progress import Progress
from testbed.lab.state import read_labs
from testbed.lab.up import BroughtUp
from testbed.topology.loaded import LoadedTopology

_GLANCE: Final = 0.2  # seconds in which Ctrl-C is heard
_LEAST_AT_ONCE: Final = 2
_MOST_AT_ONCE: Final = 8


class BringUp(Protocol):
    """`bring_up` with all that the labs have in common."""

    def __call__(self, *, lab: str, progress: Progress, stopping: Stopping) -> BroughtUp:
        """Bring up the lab of this name."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one lab: how it came up, or why it did not (None: it was not tried)."""

    lab: str
    done: BroughtUp | None = None
    error: TestbedError | None = None


def lab_names(name: str, count: int) -> list[str]:
    """`student` and 20: student-1 to student-20. Raises `UsageError` for a name that is none."""
    found = [f"{name}-{number}" for number in range(1, count + 1)]
    for each in found:
        names.check_lab_name(each)
    return found


def bring_up_several(
    engine: Engine,
    topology: LoadedTopology,
    labs: Sequence[str],
    bring_up: BringUp,
    *,
    pool: IPv4Network,
    progress: Progress,
    at_once: int | None = None,
) -> list[Outcome]:
    """Bring up labs side by side, and return what became of each; labs that fail stay, as that of `bring_up`.

    What the machine lacks ends it: labs that were not begun are not tried. Interrupted, it removes the labs
    that it made. Raises `MachineError` at once where all of them have no room, and `Interrupted`.
    """
    before = read_labs(engine)
    new = [lab for lab in labs if lab not in before]
    if new:
        check_room(engine, topology.topology, pool, engine.networks(), len(new))
    workers = at_once or max(_LEAST_AT_ONCE, min(_MOST_AT_ONCE, engine.facts().cpus))
    group = _Group(len(labs), bring_up, progress)
    with stoppable(), ThreadPoolExecutor(workers, thread_name_prefix="labs") as threads:
        futures = [threads.submit(group.carry_out, lab) for lab in labs]
        try:
            # Not without a bound: a wait that has none cannot be interrupted on every platform.
            while wait(futures, _GLANCE).not_done:
                pass
        except KeyboardInterrupt:
            try:
                group.stopping.set()
                wait(futures)
                _remove(engine, new, progress)
            except KeyboardInterrupt:
                left = sorted(read_labs(engine).keys() & {*new})
                what = ", ".join(left) or "nothing that the engine lists"
                raise Interrupted(
                    f"interrupted again; left behind: {what}", hint=f"testbed down {shared_pattern(labs)}"
                ) from None
            raise
    return [future.result() for future in futures]


def shared_pattern(labs: Sequence[str]) -> str:
    """The pattern of the names of a class, for a shell: `'student-*'`."""
    return f"'{labs[0].rpartition('-')[0]}-*'"


def _remove(engine: Engine, labs: Sequence[str], progress: Progress) -> None:
    there = read_labs(engine)
    made = [lab for lab in labs if lab in there]
    for number, lab in enumerate(made, 1):
        progress.show(f"removing {lab}, {number} of {len(made)}")
        remove_labs(engine, lab, owner=names.owner())
    if made:
        progress.say(f"removed what was made: {', '.join(made)}")


class _Group:
    """The labs that come up: how far each is, in one line."""

    def __init__(self, count: int, bring_up: BringUp, progress: Progress) -> None:
        self.stopping = threading.Event()
        self._lacking = threading.Event()  # this machine lacks something: no further lab is begun
        self._count = count
        self._bring_up = bring_up
        self._progress = progress
        self._doing: dict[str, str] = {}
        self._up = 0
        self._lock = threading.Lock()

    def carry_out(self, lab: str) -> Outcome:
        """Bring one lab up."""
        if self.stopping.is_set() or self._lacking.is_set():
            return Outcome(lab)
        part = _Part(lab, self.show)
        part.show("beginning")
        try:
            outcome = Outcome(lab, done=self._bring_up(lab=lab, progress=part, stopping=self.stopping.is_set))
        except TestbedError as error:
            if isinstance(error, MachineError):
                self._lacking.set()
            outcome = Outcome(lab, error=error)
        except KeyboardInterrupt:  # stopping, it has removed what it made of a new lab
            outcome = Outcome(lab)
            self._progress.say(part.said[-1] if part.said else f"lab {lab}: nothing was made")
        with self._lock:
            self._doing.pop(lab, None)
            self._up += outcome.done is not None
        done = outcome.done
        if outcome.error or (done and (done.removed or done.mended)):
            for line in part.said:
                self._progress.say(line)
        self.show(None, "")
        return outcome

    def show(self, lab: str | None, doing: str) -> None:
        """Say what a lab does; None changes nothing but what is shown."""
        with self._lock:
            if lab is not None:
                self._doing[lab] = doing
            parts = [f"{self._up} of {self._count} labs are up"]
            parts += [f"{name}: {what}" for name, what in self._doing.items()]
        self._progress.show("; ".join(parts))


class _Part:
    """The progress of one lab: its lines are kept until it is known whether they matter."""

    def __init__(self, lab: str, show: Callable[[str | None, str], None]) -> None:
        self.said: list[str] = []
        self._lab = lab
        self._show = show

    def say(self, text: str) -> None:
        """Keep a line."""
        self.said.append(text)

    def show(self, text: str) -> None:
        """Show what it does among what the others do."""
        self._show(self._lab, text)
