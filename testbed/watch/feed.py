"""Reading a running lab: daemons, events, packets and a probe, each by a thread of its own."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any, Final

from testbed.agreed import ROAM
from testbed.document.functions import Function
from testbed.engine.api import Container, Engine
from testbed.errors import StepError, TestbedError
from testbed.lab.access import LabAccess, Stopped
from testbed.lab.daemons import ask_all
from testbed.lab.failures import failed_links
from testbed.lab.inside import in_each
from testbed.lab.state import ActualLab, node_facts
from testbed.lab.tap import lab_names, read_target, see
from testbed.topology.loaded import LoadedTopology
from testbed.watch.actions import act
from testbed.watch.news import News
from testbed.watch.picture import Mobile, Picture
from testbed.watch.rows import Rows

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the daemons when nothing happens; an event has them asked at once."""
ASSOCIATIONS_EVERY: Final = 5.0
"""The same of a gateway's IKE SAs, which cost the start of a program."""
AGAIN: Final = 0.5
"""Seconds until a probe that ended is started again: there was no way to the correspondent."""
_WITH_INPUT: Final = 'exec 3<&0; (cat <&3; kill $$) >/dev/null 2>&1 & exec "$@" 3<&-'
"""A shell's way to run a command that ends when its standard input does: to hang up does not end it."""
_ECHO: Final = re.compile(r"icmp_seq=(\d+) .*?time=([0-9.]+) ms")
_NO_ECHO: Final = re.compile(r"no answer yet for icmp_seq=(\d+)")


class Feed:
    """What keeps the news of one lab current between `start` and `stop`."""

    def __init__(self, engine: Engine, lab: ActualLab, topology: LoadedTopology, every: float) -> None:
        """`every`: seconds between two probes of a mobile node; 0 for none."""
        self._engine, self._lab, self._every = engine, lab, every
        running = {name: each for name, each in lab.nodes.items() if each.state == "running"}
        self._running: dict[str, Container] = running
        self._access = LabAccess(engine, lab.name, topology, {name: one.id for name, one in running.items()})
        self._facts = {name: node_facts(each) for name, each in running.items()}
        self._ike_sas = {
            name: service.ike_sas
            for name, facts in self._facts.items()
            if Function.VPN_GATEWAY in facts.functions
            for service in topology.daemons(name)
            if service.ike_sas
        }
        mobiles = {name: Mobile(name, one.attaches) for name, one in self._facts.items() if one.attaches}
        self.news = News(topology, Picture(lab.name, mobiles), Rows(lab_names(engine, lab)))
        self._asked = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to read everything. Raises `TestbedError` where a node cannot be asked."""
        self._access.open()
        self._look_at_failures()
        jobs: list[Callable[[], None]] = [self._read_events, self._look_at_daemons, self._read_packets]
        jobs += [self._look_at_associations]
        jobs += [partial(self._probe, name) for name in self.news.picture.mobiles if self._every]
        for job in jobs:
            thread = threading.Thread(target=self._run, args=(job,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End everything in the nodes and wait for it."""
        self.news.end()
        self._asked.set()
        self._access.stop()
        for thread in self._threads:
            thread.join(5)

    def act(self, action: str, subject: str, how: str = "") -> str:
        """Carry out an action as `testbed.watch.actions.act` does, and see what has failed since."""
        try:
            return act(self._engine, self._lab.name, action, subject, how)
        finally:
            self._look_at_failures()
            self.news.tell()

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Stopped:
            pass
        except TestbedError as error:
            if not self.news.ended:
                self.news.tell(problem=error.message)

    def _look_at_failures(self) -> None:
        cut = failed_links(self._engine, self._lab)
        self.news.picture.failed = frozenset(
            f"{node}/{link}" for node, links in cut.items() for link in links
        )

    def _read_events(self) -> None:
        log, mark = self._access.log, 0
        while not self.news.ended:
            log.wait(mark, lambda _: True, 3600)
            for entry in log.since(mark):
                mark += 1
                self._asked.set()
                if self.news.picture.happened(entry):
                    self.news.tell()

    def _look_at_daemons(self) -> None:
        askable = {name: each for name, each in self._running.items() if self._facts[name].services}
        services = [
            (node, service)
            for node, states in in_each(askable, lambda _, each: ask_all(self._engine, each)).items()
            for service, state in states.items()
            if state and ("role" in state or service == ROAM)  # others say nothing about mobility
        ]
        while not self.news.ended:
            self._asked.clear()
            for node, service in services:
                try:
                    state = self._access.state(node, service)
                except StepError:
                    state = None
                self.news.picture.daemon(node, service, state, time.monotonic())
            self.news.tell()
            self._asked.wait(LOOK_EVERY)

    def _look_at_associations(self) -> None:
        while self._ike_sas and not self.news.ended:
            for node, command in self._ike_sas.items():
                if self.news.picture.gateway(node, self.associations(node, command)):
                    self.news.tell()
            self.news.pause(ASSOCIATIONS_EVERY)

    def associations(self, node: str, command: str) -> tuple[str, ...]:
        """The IKE SAs of a gateway in words, as the command of its role (`ike-sas`) prints them."""
        try:
            return tuple(map(_association, json.loads(self._access.shell(node, command).out)))
        except (StepError, ValueError, LookupError, TypeError):  # silent, or a user's program prints else
            return ("unknown",)

    def _read_packets(self) -> None:
        target = read_target(self._lab, None, (), no_routing=True)
        with closing(see(self._engine, self._lab, target)) as passages:
            for passage in passages:
                if self.news.ended:
                    return
                if row := self.news.rows.take(passage):
                    self.news.tell(row)

    def _probe(self, node: str) -> None:
        """Ping the correspondent without end, with a program that says so when nothing comes back."""
        peers = [name for name, facts in self._facts.items() if Function.CORRESPONDENT in facts.functions]
        if not peers:
            return
        ping = ["ping", "-n", "-O", "-i", f"{self._every:g}", self._facts[peers[0]].address]
        command = ["sh", "-c", _WITH_INPUT, "sh", *ping]
        while not self.news.ended:
            with self._access.session(node, command, stdin=True) as session:
                rest = b""
                for stream, data in session:
                    *lines, rest = (rest + data).split(b"\n") if stream == "stdout" else [rest]
                    for line in lines:
                        self._echo(node, line.decode(errors="replace"))
            self.news.picture.probe_begins(node)
            self.news.picture.echo(node, 0, None)  # ping ends where there is no way at all
            self.news.pause(AGAIN)

    def _echo(self, node: str, line: str) -> None:
        if found := _ECHO.search(line):
            self.news.picture.echo(node, int(found[1]), float(found[2]))
        elif found := _NO_ECHO.search(line):
            self.news.picture.echo(node, int(found[1]), None)
        else:
            return
        self.news.tell()


def _association(sa: Mapping[str, Any]) -> str:
    """A line on an IKE SA. charon's has an SPI, by which two SAs of one peer differ."""
    words = f"{sa['remote-id'] or 'unknown peer'} {str(sa['state'] or 'unknown').lower()}"
    return f"{words} ({spi})" if (spi := sa.get("initiator-spi")) else words
