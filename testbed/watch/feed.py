"""The news of a running lab, as it comes: daemons, events, packets and a probe, each read by its own thread.

Whoever looks (a terminal, any number of browsers) has a mailbox, which holds what has changed since it was
emptied: a slow reader misses moments, and never the end of them.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Final

from testbed.agreed import ROAM
from testbed.document.functions import Function
from testbed.engine.api import Engine
from testbed.errors import StepError, TestbedError
from testbed.lab.access import LabAccess, Stopped
from testbed.lab.daemons import ask_all
from testbed.lab.failures import failed_links
from testbed.lab.state import ActualLab, node_facts
from testbed.lab.tap import lab_names, read_target, see
from testbed.topology.loaded import LoadedTopology
from testbed.watch.actions import act
from testbed.watch.picture import Mobile, Picture
from testbed.watch.rows import LiveRow, Rows

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the daemons when nothing happens; an event has them asked at once."""
ASSOCIATIONS_EVERY: Final = 5.0
"""The same of a gateway's IKE SAs, which cost the start of a program."""
AGAIN: Final = 0.5
"""Seconds until a probe that ended is started again: there was no way to the correspondent."""
_ECHO: Final = re.compile(r"icmp_seq=(\d+) .*?time=([0-9.]+) ms")
_NO_ECHO: Final = re.compile(r"no answer yet for icmp_seq=(\d+)")


@dataclass(slots=True)
class Mailbox:
    """What has changed for one reader."""

    picture: bool = True
    rows: dict[int, LiveRow] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether there is nothing new."""
        return not (self.picture or self.rows or self.problems)


class Feed:
    """The news of one lab between `start` and `stop`."""

    def __init__(
        self, engine: Engine, lab: ActualLab, topology: LoadedTopology, *, every: float = 0.2
    ) -> None:
        """`every`: seconds between two probes of a mobile node; 0 for none."""
        self.topology = topology
        self.lab = lab
        self._engine = engine
        self._every = every
        running = {name: each for name, each in lab.nodes.items() if each.state == "running"}
        self._access = LabAccess(
            engine, lab.name, topology, {name: each.id for name, each in running.items()}
        )
        self._facts = {name: node_facts(each) for name, each in running.items()}
        mobiles = {
            name: Mobile(name, facts.attaches) for name, facts in self._facts.items() if facts.attaches
        }
        self.picture = Picture(lab.name, mobiles)
        self.rows = Rows(lab_names(engine, lab))
        self._lock = threading.Condition()
        self._mailboxes: list[Mailbox] = []
        self._asked = threading.Event()
        self._stopped = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to read everything."""
        self._access.open()
        self._look_at_failures()
        jobs = [self._read_events, self._look_at_daemons, self._look_at_associations, self._read_packets]
        if self._every:
            jobs += [lambda name=name: self._probe(name) for name in self.picture.mobiles]  # type: ignore[misc]
        for job in jobs:
            thread = threading.Thread(target=self._run, args=(job,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End everything in the nodes and wait for it."""
        self._stopped = True
        self._asked.set()
        self._access.stop()
        with self._lock:
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(5)

    def act(self, action: str, subject: str, how: str = "") -> str:
        """Carry out an action on the lab as `testbed.watch.actions.act` does, and see what failed since."""
        try:
            return act(self._engine, self.lab.name, action, subject, how)
        finally:
            self._look_at_failures()
            self._tell(picture=True)

    def _look_at_failures(self) -> None:
        cut = failed_links(self._engine, self.lab)
        self.picture.failed = frozenset(f"{node}/{link}" for node, links in cut.items() for link in links)

    @contextmanager
    def reading(self) -> Iterator[Mailbox]:
        """A mailbox for one reader; `wait` empties it."""
        box = Mailbox(rows=dict(self.rows.rows))
        with self._lock:
            self._mailboxes.append(box)
        try:
            yield box
        finally:
            with self._lock:
                self._mailboxes.remove(box)

    def wait(self, box: Mailbox, seconds: float) -> Mailbox:
        """What is new; returns an empty one after so many seconds without news."""
        with self._lock:
            if box.empty and not self._stopped:
                self._lock.wait(seconds)
            news = Mailbox(box.picture, box.rows, box.problems)
            box.picture, box.rows, box.problems = False, {}, []
            return news

    @property
    def stopped(self) -> bool:
        """Whether it has ended."""
        return self._stopped

    def _tell(self, row: LiveRow | None = None, problem: str = "", *, picture: bool = False) -> None:
        with self._lock:
            for box in self._mailboxes:
                box.picture = box.picture or picture
                if row is not None:
                    box.rows[row.number] = row
                if problem:
                    box.problems.append(problem)
            self._lock.notify_all()

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Stopped:
            pass
        except TestbedError as error:
            if not self._stopped:
                self._tell(problem=error.message)

    def _read_events(self) -> None:
        mark = 0
        while not self._stopped:
            self._access.log.wait(mark, lambda _: True, 3600)
            for entry in self._access.log.since(mark):
                mark += 1
                changed = self.picture.happened(entry)
                self._asked.set()
                if changed:
                    self._tell(picture=True)

    def _look_at_daemons(self) -> None:
        services = [
            (name, service)
            for name, facts in self._facts.items()
            if facts.services
            for service, state in ask_all(self._engine, self.lab.nodes[name]).items()
            if state and ("role" in state or service == ROAM)  # others say nothing about mobility
        ]
        while not self._stopped:
            self._asked.clear()
            for node, service in services:
                try:
                    state = self._access.state(node, service)
                except Stopped:
                    raise
                except StepError:
                    state = None
                self.picture.daemon(node, service, state, time.monotonic())
            self._tell(picture=True)
            self._asked.wait(LOOK_EVERY)

    def _look_at_associations(self) -> None:
        gateways = [name for name, facts in self._facts.items() if Function.VPN_GATEWAY in facts.functions]
        while gateways and not self._stopped:
            for node in gateways:
                try:
                    done = self._access.execute(node, ["python3", "-m", "testbed.node.ike_sas"])
                    found = json.loads(done.out) if done.code == 0 else []
                except Stopped:
                    raise
                except (StepError, ValueError):
                    found = []
                words = tuple(
                    f"{sa['remote-id']} {sa['state'].lower()}, SPI {sa['initiator-spi']}" for sa in found
                )
                if self.picture.associations.get(node) != words:
                    self.picture.associations[node] = words
                    self._tell(picture=True)
            self._pause(ASSOCIATIONS_EVERY)

    def _read_packets(self) -> None:
        target = read_target(self.lab, None, (), no_routing=True)
        with closing(see(self._engine, self.lab, target)) as passages:
            for passage in passages:
                if self._stopped:
                    return
                if row := self.rows.take(passage):
                    self._tell(row)

    def _probe(self, node: str) -> None:
        """Ping the correspondent without end, by a program that says so when nothing comes back."""
        peers = [name for name, facts in self._facts.items() if Function.CORRESPONDENT in facts.functions]
        if not peers:
            return
        to = self._facts[peers[0]].address
        while not self._stopped:
            with self._access.session(
                node, ["ping", "-n", "-O", "-i", f"{self._every:g}", to], stdin=True
            ) as session:
                rest = b""
                for stream, data in session:
                    if stream != "stdout":
                        continue
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        self._echo(node, line.decode(errors="replace"))
            self._echo(node, "no answer yet for icmp_seq=0")
            self._pause(AGAIN)

    def _echo(self, node: str, line: str) -> None:
        if found := _ECHO.search(line):
            self.picture.echo(node, float(found[2]))
        elif _NO_ECHO.search(line):
            self.picture.echo(node, None)
        else:
            return
        self._tell(picture=True)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._lock:
            while not self._stopped and (remaining := end - time.monotonic()) > 0:
                self._lock.wait(remaining)
        if self._stopped:
            raise Stopped("stopped")
