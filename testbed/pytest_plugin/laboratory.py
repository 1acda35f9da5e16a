"""The lab that a test gets."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from json import dumps
from pathlib import Path
from shlex import join
from typing import Any, Final, ParamSpec, TypeVar, overload

from testbed.agreed import RUN, SETTLED, Impairment
from testbed.engine.api import Engine
from testbed.errors import TestbedError, UsageError, did_you_mean
from testbed.evidence.run import StepRecord
from testbed.evidence.verdicts import Claim
from testbed.lab.access import Entry, LabAccess
from testbed.lab.captures import Captures
from testbed.lab.daemons import ask_all
from testbed.lab.impairments import change_lab
from testbed.lab.inside import Done
from testbed.lab.move import move
from testbed.lab.progress import Silent
from testbed.lab.reason import reason
from testbed.lab.state import ActualLab, find_lab, node_facts
from testbed.lab.status import lab_status
from testbed.lab.tap import find_taps
from testbed.packet.decode import Packet, decode
from testbed.packet.filters import FilterError
from testbed.packet.match import match
from testbed.packet.names import Names
from testbed.packet.pcap import ETHERNET, Frame
from testbed.packet.taps import TapFrames
from testbed.pytest_plugin.recorder import Recorder
from testbed.pytest_plugin.verifying import Lend, verify_claim
from testbed.topology.loaded import LoadedTopology
from testbed.topology.names import host_addresses, topology_names

_P = ParamSpec("_P")
_R = TypeVar("_R")
_SHOWN: Final = 40  # packets in a text
_LOGGED_WITHIN: Final = 2.0  # seconds that an event takes through the engine, at most


def for_people(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let an error be what a test's author reads: its message at the test's own line, without our frames."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        __tracebackhide__ = True
        try:
            return function(*args, **kwargs)
        except TestbedError as error:
            raise error.with_traceback(None) from None

    return call


@dataclass(frozen=True, slots=True)
class Timeline:
    """What came of a move, and after how many ms it came to each step; None: to this step it did not come."""

    node: str
    network: str
    state: str
    """registered, at-home or unregistered."""
    detail: str
    """In words: what the mobile node has there, or why it is not registered and where to look."""
    link: float | None
    address: float | None
    ike: float | None
    registration: float | None
    data: float | None
    """The first answer of the correspondent."""


class Packets(Sequence[Packet]):
    """Decoded packets in order of time: so far, and after the end of `capture` all of them."""

    def __init__(self, read: Callable[[], list[Frame]], names: Names) -> None:
        self._read = read
        self._names = names
        self._frames: list[Frame] | None = None

    def end(self) -> None:
        """Read what was captured for the last time."""
        self._frames = self._read()

    @property
    def frames(self) -> list[Frame]:
        """The packets as captured, with their times (ns since the epoch)."""
        return self._read() if self._frames is None else self._frames

    @overload
    def __getitem__(self, index: int) -> Packet: ...
    @overload
    def __getitem__(self, index: slice) -> list[Packet]: ...
    def __getitem__(self, index: int | slice) -> Packet | list[Packet]:
        return self._decoded()[index]

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Packet]:
        return iter(self._decoded())

    def __repr__(self) -> str:
        """Every header with the nodes' names, a packet a line."""
        packets = self._decoded()
        lines = [packet.text(self._names) for packet in packets[:_SHOWN]]
        lines += [f"… and {len(packets) - _SHOWN} more"] if len(packets) > _SHOWN else []
        return "\n".join(lines) or "no packets"

    def _decoded(self) -> list[Packet]:
        return [decode(frame.data, frame.linktype, frame.length) for frame in self.frames]


class Node:
    """One node of a lab."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.name = name
        self._lab = lab

    @for_people
    def state(self) -> dict[str, dict[str, Any] | None]:
        """What each of its daemons says of itself, by service; None for a daemon that does not answer."""
        return ask_all(self._lab.engine, self._lab.actual.running_node(self.name))

    @property
    def container(self) -> str:
        """The id of its container in the engine."""
        return self._lab.actual.node(self.name).id


def lab_key(topology: LoadedTopology) -> str:
    """What makes a lab, claims aside: equal for tests that ask for the same."""
    document = {key: value for key, value in topology.document.items() if key not in _NO_LAB}
    parts = [document, dict(topology.options), str(topology.templates and topology.templates.resolve())]
    return sha256(dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


_NO_LAB: Final = frozenset(("claims", "title", "trials", "filters", "selection"))


class Lab:
    """A running lab. At the begin of a test its mobile nodes are registered nowhere, as in runs of claims.

    Methods raise `TestbedError` with a message for people: `UsageError` for a name that the lab has not.
    """

    def __init__(self, access: LabAccess, *, lend: Lend, folder: Callable[[], Path]) -> None:
        """`lend` lends further labs, and `folder` is for evidence of the present test."""
        self.access = access
        """The lab as experiments see it."""
        self.changed = False
        """Whether a test did what only another `up` puts right."""
        self._lend = lend
        self._folder = folder
        self._recorders = [Recorder(access, node) for node in access.topology.mobile_nodes]
        self._captures = itertools.count(1)
        self.steps: list[StepRecord] = []
        """What the present test did."""
        self.began = time.time()
        """When the present test began, in s since the epoch."""
        self._mark = 0

    def __repr__(self) -> str:
        return f"<lab {self.name} of {self.topology.name}>"

    @property
    def name(self) -> str:
        """Its name, as `testbed status` has it."""
        return self.access.name

    @property
    def topology(self) -> LoadedTopology:
        """What it was brought up from."""
        return self.access.topology

    @property
    def engine(self) -> Engine:
        """The engine that it runs in."""
        return self.access.engine

    @property
    def actual(self) -> ActualLab:
        """What the engine has of it now."""
        return find_lab(self.engine, self.name)

    @property
    def events(self) -> Sequence[Entry]:
        """What its nodes have reported since the present test began, in the order of arrival."""
        return self.access.log.since(self._mark)

    @for_people
    def node(self, name: str) -> Node:
        """One of its nodes."""
        if name not in self.topology.nodes:
            hint = did_you_mean(name, self.topology.nodes)
            raise UsageError(f"lab {self.name} has no node {name}", hint=hint)
        return Node(self, name)

    @for_people
    def exec(self, node: str, *command: str, within: float = 30.0) -> Done:
        """Run a command in a node to its end, at most `within` seconds; its exit code is in the result."""
        self.node(node)
        self.changed = True  # who knows what it does
        with self._step("exec", f"exec {node}: {join(command)}") as came:
            done = self.access.execute(node, command, within=within)
            came(f"exit code {done.code}")
        return done

    @for_people
    def move(self, node: str, network: str) -> Timeline:
        """Attach a mobile node to a network, and wait until that has settled: registered or not."""
        settled: dict[str, Any] = {}
        with self._step("move", f"move {node} to {network}") as came:
            actual, mark = self.actual, self.access.log.mark()
            with closing(move(self.engine, actual, node, network)) as events:
                for settled in events:  # noqa: B007
                    pass
            # The log brings what the node has said already: a test that looks at `events` finds it there.
            self.access.log.wait(mark, lambda one: (one.node, one.name) == (node, SETTLED), _LOGGED_WITHIN)
            detail, timeline = str(settled.get("detail")), settled.get("timeline") or {}
            if timeline.get("data") is None:
                detail = reason(lab_status(self.engine, actual, ask=[node]), node, detail)
            came(f"{settled.get('state')}: {detail}")
        return Timeline(node, network, str(settled.get("state")), detail, **timeline)

    @for_people
    def set(self, *changes: str) -> Mapping[str, Impairment]:
        """Change delay, jitter, loss or rate: `network.internet.delay=80ms`. It holds for this test alone."""
        self.changed = True
        with self._step("set", f"set {' '.join(changes)}") as came:
            now = change_lab(self.engine, self.name, changes, Silent())
            came("done")
        return now

    @contextmanager
    def capture(self, *taps: str, filter: str = "") -> Iterator[Packets]:
        """Capture at taps NODE/NETWORK what a pcap filter matches, in which nodes have their names.

        All of it is there after the block; within, what has come so far.
        """
        __tracebackhide__ = True
        hosts = host_addresses(self.topology)
        captures = self._prepared(taps, filter, f"{RUN}/captures/test-{next(self._captures)}")

        def read() -> list[Frame]:
            frames = [one for tap in captures.look(captures.taps) for one in tap.match(filter, hosts).frames]
            return sorted(frames, key=lambda frame: frame.time)

        packets = Packets(read, topology_names(self.topology))
        try:
            yield packets
        finally:
            captures.stop()
            packets.end()

    @for_people
    def _prepared(self, taps: Sequence[str], expression: str, folder: str) -> Captures:
        """Captures that run."""
        actual = self.actual
        for text in taps:
            for tap in find_taps(actual, text):  # which names what is not there
                if tap.network is None or tap.sent_only:
                    network = next(iter(node_facts(tap.container).links), "NETWORK")
                    raise UsageError(f"{text}: expected NODE/NETWORK", hint=f"such as {tap.node}/{network}")
        try:
            match((), expression, host_addresses(self.topology), ETHERNET)
        except FilterError as error:
            raise UsageError(f"filter {expression!r}: {error.message}", hint=error.hint) from error
        captures = Captures(self.access, taps, folder)
        captures.start()
        return captures

    @for_people
    def verify(self, claim: str) -> Claim:
        """Decide a claim of its topology: its verdict, and what was found.

        Runs that this lab fits take place here, others in further labs. The mobile node is then registered
        nowhere.
        """

        @contextmanager
        def lend(topology: LoadedTopology) -> Iterator[LabAccess]:
            if lab_key(topology) == lab_key(self.topology):
                yield self.access
                return
            with self._lend(topology) as access:
                yield access

        with self._step("verify", f"verify {claim}") as came:
            decided = verify_claim(self.topology, claim, lend, self._folder() / claim)
            came(decided.verdict)
        return decided

    # What the plugin does with it.

    def begin(self) -> None:
        """Lend it: the recorders begin."""
        for recorder in self._recorders:
            recorder.start()
        self.begin_test()

    def begin_test(self) -> None:
        """A test begins: what was before is not its own."""
        self.steps.clear()
        self.began = time.time()
        self._mark = self.access.log.mark()

    def recorded(self) -> Iterator[TapFrames]:
        """What its mobile nodes saw of the present test, as far as it is kept. Raises `TestbedError`."""
        for recorder in self._recorders:
            yield from recorder.since(self.began)

    def close(self) -> None:
        """Hang up."""
        for recorder in self._recorders:
            recorder.close()
        self.access.stop()

    @contextmanager
    def _step(self, word: str, text: str) -> Iterator[Callable[[str], None]]:
        __tracebackhide__ = True
        began, result = time.time(), ["could not be done"]
        try:
            yield lambda came: result.__setitem__(0, came)
        except TestbedError as error:
            result[0] = f"could not be done: {error.message}"
            raise
        finally:
            self.steps.append(
                StepRecord(step=word, text=text, began=began, ended=time.time(), result=result[0])
            )
