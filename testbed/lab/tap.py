"""Watching a running lab: tcpdump in one node, in all nodes of a network or in all nodes, as one stream.

A node's interface is captured as it is. A whole network is captured by what each of its nodes sends, so that
every packet on the link is seen exactly once. A mobile node's links go up and down, which ends a capture of
one interface; there all interfaces are captured, and the interface's number sorts the packets. In a whole lab
all interfaces of all nodes are captured, and what several of them see of one packet is put together.
"""

from __future__ import annotations

import heapq
import queue
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final

from testbed.agreed import RELAY_DEVICE
from testbed.document.functions import Function
from testbed.engine.api import Container, Engine
from testbed.errors import UsageError, did_you_mean
from testbed.lab.failures import failed_links
from testbed.lab.inside import in_each, run_inside
from testbed.lab.passages import Passage, Passages
from testbed.lab.state import ActualLab, NodeFacts, node_facts
from testbed.lab.tcpdump import HEADERS, INTERFACES, Tcpdump, interface_names
from testbed.packet.decode import link
from testbed.packet.filters import FilterError, filter_hosts
from testbed.packet.names import Names
from testbed.packet.pcap import CaptureReader, Frame

_START_WITHIN: Final = 10.0
_HOLD: Final = 0.15
"""Seconds a frame waits for older ones from other nodes."""
_HOLD_PASSAGE: Final = 0.5
"""Seconds a passage waits for those that received it: more nodes take part."""
_END_WITHIN: Final = 2.0
"""Seconds in which all tcpdumps have to say at their end how many packets they lack."""
_UNSEEN: Final = frozenset(("lo", RELAY_DEVICE))
"""Interfaces that lead to no other node, nor are a tunnel's: left out of what is seen of a whole lab."""
NO_ROUTING: Final = "not (arp or ip6 or ip proto 2 or ip proto 89)"
"""The pcap filter without what routing and the search for neighbours send: ARP, IPv6, IGMP, OSPF."""


@dataclass(frozen=True, slots=True)
class Tap:
    """Where to capture: one node, on one of its networks or (None) on all its interfaces."""

    node: str
    container: Container
    network: str | None
    roaming: bool
    sent_only: bool

    @property
    def name(self) -> str:
        """NODE/NETWORK, or NODE."""
        return f"{self.node}/{self.network}" if self.network else self.node


def all_taps(lab: ActualLab) -> list[Tap]:
    """Every node of a lab that runs, on all its interfaces. Raises `UsageError` where none runs."""
    running = {name: container for name, container in lab.nodes.items() if container.state == "running"}
    if not running:
        raise UsageError(f"no node of lab {lab.name} runs", hint="testbed up makes it anew")
    return [Tap(name, container, None, False, False) for name, container in running.items()]


@dataclass(frozen=True, slots=True)
class Target:
    """What to capture: some taps or the whole lab, and a pcap filter (`""`: everything)."""

    taps: tuple[Tap, ...]
    everywhere: bool
    expression: str

    def __str__(self) -> str:
        return "all nodes" if self.everywhere else ", ".join(tap.name for tap in self.taps)


def read_target(
    lab: ActualLab, where: str | None, expression: Sequence[str] = (), *, no_routing: bool = False
) -> Target:
    """Read what a command line names: a place and a filter, or a filter alone for the whole lab.

    The first word is a place where the lab has one of that name, else the filter's beginning where a filter
    begins like that. Raises `UsageError` with the nearest name for a word that is neither.
    """
    words = [*expression]
    if where is not None and not _is_place(lab, where) and _is_filter(" ".join([where, *words])):
        words.insert(0, where)
        where = None
    taps = all_taps(lab) if where is None else find_taps(lab, where)
    parts = [" ".join(words), NO_ROUTING if no_routing else ""]
    return Target(tuple(taps), where is None, " and ".join(f"({part})" for part in parts if part))


def _is_place(lab: ActualLab, text: str) -> bool:
    node, slash, _ = text.partition("/")
    if slash:
        return node in lab.nodes
    return text in lab.nodes or any(text in facts.links for facts in _facts(lab))


def _is_filter(text: str) -> bool:
    """Whether it can be meant as a filter: such a word alone would be the name of a host to libpcap."""
    try:
        return text.split() != list(filter_hosts(text))
    except FilterError:
        return len(text.split()) > 1


def _facts(lab: ActualLab) -> list[NodeFacts]:
    return [node_facts(container) for container in lab.nodes.values()]


def find_taps(lab: ActualLab, target: str) -> list[Tap]:
    """What `NODE/NETWORK`, `NODE` or `NETWORK` means in a lab. Raises as `ActualLab.node`."""
    facts = {name: node_facts(container) for name, container in lab.nodes.items()}
    networks = list(dict.fromkeys(net for one in facts.values() for net in one.links))

    def tap(node: str, network: str | None, *, sent_only: bool = False) -> Tap:
        return Tap(node, lab.running_node(node), network, bool(facts[node].attaches), sent_only)

    node, slash, network = target.partition("/")
    if slash:
        lab.node(node)
        if network not in facts[node].links:
            hint = did_you_mean(network, facts[node].links)
            raise UsageError(f"{node} is not on a network {network}", hint=hint)
        return [tap(node, network)]
    if target in facts:
        return [tap(target, None)]
    if target not in networks:
        if lab.lost:
            lab.node(target)  # says that it may be on an engine that does not answer
        hint = did_you_mean(target, [*facts, *networks])
        raise UsageError(f"lab {lab.name} has no node or network {target}", hint=hint)
    return [tap(name, target, sent_only=True) for name, one in facts.items() if target in one.links]


def lab_names(engine: Engine, lab: ActualLab) -> Names:
    """Words for the addresses of a lab: its nodes, and a mobile node wherever it is."""
    addresses: dict[IPv4Address, str] = {}
    prefixes: dict[str, IPv4Network] = {}
    mobile = lab.mobile_nodes
    for node, container in lab.nodes.items():
        for network, text in node_facts(container).links.items():
            if text is None:
                continue
            interface = IPv4Interface(text)
            addresses[interface.ip] = node
            known = prefixes.get(network)
            if known is None or interface.network.prefixlen < known.prefixlen:
                prefixes[network] = interface.network
    # Every node has the names of all; one that has ended cannot be asked.
    running = next((each for each in lab.nodes.values() if each.state == "running"), None)
    hosts = run_inside(engine, running, ["cat", "/etc/testbed/hosts"]).text if running else ""
    for line in hosts.splitlines():
        fields = line.split()
        if len(fields) > 1 and fields[1] in mobile:
            addresses[IPv4Address(fields[0])] = fields[1]
    places = []
    if len(mobile) == 1:
        attaches = node_facts(lab.nodes[mobile[0]]).attaches
        places = [(prefixes[net], f"{mobile[0]}@{net}") for net in attaches if net in prefixes]
        places += [(pool, f"{mobile[0]}@vpn") for pool in _inner_pools(engine, lab)]
    return Names(addresses, places)


def _inner_pools(engine: Engine, lab: ActualLab) -> list[IPv4Network]:
    """What VPN gateways lend to clients for use inside IPsec, by the configuration of their charon."""
    gateways = {
        name: container
        for name, container in lab.nodes.items()
        if container.state == "running" and Function.VPN_GATEWAY in node_facts(container).functions
    }

    def read(name: str, container: Container) -> list[IPv4Network]:
        found = run_inside(engine, container, ["cat", "/etc/swanctl/swanctl.conf"]).text
        return [IPv4Network(each) for each in re.findall(r"^ *addrs = ([\d.]+/\d+)$", found, re.MULTILINE)]

    return [pool for pools in in_each(gateways, read).values() for pool in pools]


class _Source:
    """One tcpdump, whose frames go to `put`, and None when it has ended."""

    def __init__(
        self,
        engine: Engine,
        tap: Tap,
        expression: str,
        octets: int,
        put: Callable[[_Source, Frame | None], None],
    ) -> None:
        self.tap = tap
        self._engine = engine
        self._put = put
        self._interfaces: dict[int, str] = {}
        self._reader = CaptureReader(tap.name)
        every = tap.roaming or tap.network is None
        self.tcpdump = Tcpdump(
            lambda command: engine.execute(tap.container.id, command, stdin=True),
            ["-i", "any" if every else str(tap.network), *(["-Q", "out"] if tap.sent_only else [])],
            network=tap.network if every and tap.network else "",
            expression=expression,
            octets=octets,
            take=self._take,
            ended=lambda: put(self, None),
        )
        self.tcpdump.start()

    def look_up(self) -> None:
        """Ask for the names of the node's interfaces: that takes a moment, in which no frame comes."""
        listing = run_inside(self._engine, self.tap.container, ["sh", "-c", INTERFACES]).text
        self._interfaces = interface_names(listing)

    def _take(self, data: bytes) -> None:
        for frame in self._reader.feed(data):
            self._put(self, replace(frame, interface=self._name(frame)))

    def _name(self, frame: Frame) -> str:
        """NODE/INTERFACE; in a capture of all interfaces the frame knows its number."""
        if self.tap.network:
            return self.tap.name
        header = link(frame)
        index = header.interface if header else None
        if index is None:
            return self.tap.node
        if index not in self._interfaces:  # a tunnel may have come up meanwhile
            self.look_up()
            self._interfaces.setdefault(index, str(index))
        return f"{self.tap.node}/{self._interfaces[index]}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How long to watch, and what is heard of it."""

    count: int | None = None
    """End after so many frames."""
    seconds: float | None = None
    """End after so many seconds."""
    octets: int = HEADERS
    """Captured of each packet."""
    ready: Callable[[], None] = lambda: None
    """Called once all capture."""
    lacking: Callable[[int], None] = lambda number: None
    """Called at the end, where the kernel could not hand packets over, with their number in all captures."""


ALL: Final = Wanted()


def watch(
    engine: Engine, taps: Sequence[Tap], expression: str = "", wanted: Wanted = ALL
) -> Generator[Frame, None, None]:
    """Frames of all taps in order of time, as they come, with `node/interface` as their interface.

    Ends as is `wanted`, or when every tcpdump has ended. Close the iterator to end it early. Raises
    `UsageError` for a filter that tcpdump refuses.
    """
    with closing(_watch(engine, taps, expression, Passage, _HOLD, wanted)) as seen:
        for each in seen:
            yield each.frame


def see(
    engine: Engine, lab: ActualLab, target: Target, wanted: Wanted = ALL
) -> Generator[Passage, None, None]:
    """What `watch` would yield; of a whole lab every packet once on each network and tunnel it crosses.

    Links that had failed before the capture began receive nothing.
    """
    if not target.everywhere:
        yield from _watch(engine, target.taps, target.expression, Passage, _HOLD, wanted)
        return
    passages = Passages(frozenset(network for facts in _facts(lab) for network in facts.links))

    cut = failed_links(engine, lab)

    def add(frame: Frame) -> Passage | None:
        node, _, interface = frame.interface.partition("/")
        if interface in _UNSEEN:
            return None
        header = link(frame)
        if interface in cut.get(node, ()) and header and not header.outgoing:
            return None  # it came as far as the cut, behind tcpdump
        return passages.add(frame)

    yield from _watch(engine, target.taps, target.expression, add, _HOLD_PASSAGE, wanted)


_Add = Callable[[Frame], Passage | None]
"""Takes a frame, and returns what is to be seen of it; None where that is seen already."""


def _watch(
    engine: Engine, taps: Sequence[Tap], expression: str, add: _Add, hold: float, wanted: Wanted
) -> Generator[Passage, None, None]:
    arrived: queue.Queue[tuple[_Source, Frame | None]] = queue.Queue()
    sources = [
        _Source(engine, tap, expression, wanted.octets, lambda s, f: arrived.put((s, f))) for tap in taps
    ]
    try:
        _wait_until_live(sources)
        unnamed = {source.tap.node: source for source in sources if source.tap.network is None}
        in_each(
            {node: one.tap.container for node, one in unnamed.items()},
            lambda node, _: unnamed[node].look_up(),
        )
        wanted.ready()
        try:
            yield from _merged(arrived, len(sources), add, hold, wanted.count, wanted.seconds)
        finally:
            if lacking := _lacking(sources):
                wanted.lacking(lacking)
        for source in sources:
            if source.tcpdump.failed:
                raise UsageError(f"the capture at {source.tap.name} ended: {source.tcpdump.complaint}")
    finally:
        for source in sources:
            source.tcpdump.leave()


def _lacking(sources: Sequence[_Source]) -> int:
    """End all, and return how many packets the kernel could not hand over to them."""
    deadline = time.monotonic() + _END_WITHIN
    for source in sources:
        source.tcpdump.end()
    for source in sources:
        source.tcpdump.wait_for_end(max(0.0, deadline - time.monotonic()))
    return sum(source.tcpdump.dropped for source in sources)


def _wait_until_live(sources: Sequence[_Source]) -> None:
    deadline = time.monotonic() + _START_WITHIN
    for source in sources:
        if not source.tcpdump.wait(deadline - time.monotonic()):
            raise UsageError(f"cannot capture at {source.tap.name}: {source.tcpdump.complaint}")


def _merged(
    arrived: queue.Queue[tuple[_Source, Frame | None]], running: int, add: _Add, hold: float,
    count: int | None, seconds: float | None,
) -> Iterator[Passage]:  # fmt: skip
    """What is seen, by time; each waits a moment for what is older and still on its way."""
    end = None if seconds is None else time.monotonic() + seconds
    held: list[tuple[int, int, float, Passage]] = []
    number, given = 0, 0
    while True:
        now = time.monotonic()
        over = running == 0 or (end is not None and now >= end)
        while held and (over or held[0][2] <= now):
            if count is not None and given >= count:
                return
            given += 1
            yield heapq.heappop(held)[3]
        if over or (count is not None and given >= count):
            return
        # A queue's wait without a bound cannot be interrupted by Ctrl-C on every platform.
        until = min([now + 0.5, *([end] if end else []), *([held[0][2]] if held else [])])
        try:
            _, frame = arrived.get(timeout=max(0.001, until - now))
        except queue.Empty:
            continue
        if frame is None:
            running -= 1
        elif seen := add(frame):
            number += 1
            heapq.heappush(held, (seen.frame.time, number, time.monotonic() + hold, seen))
