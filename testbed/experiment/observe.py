"""Decides expectations from what can be seen: captures, the daemons' state, events, traffic."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from math import inf
from typing import Any, Final

from testbed.agreed import READABLE
from testbed.claim.expectations import (
    Accepted,
    Binding,
    Clear,
    Counter,
    Daemons,
    EspSas,
    Event,
    Expectation,
    Heard,
    Hops,
    Ike,
    MobileNodeState,
    Packets,
    Perimeter,
    ProbeResult,
    Reachable,
    Refused,
    SessionState,
    Unreachable,
    Visitor,
    Wire,
)
from testbed.claim.phrases import expectation_text
from testbed.claim.seen import Count
from testbed.experiment.captures import Captures, Matched
from testbed.experiment.echo import ping, source_address
from testbed.experiment.later import later
from testbed.experiment.perimeter import border, perimeter
from testbed.experiment.refusal import accepted, refused
from testbed.experiment.traffic import CHECK_WITHIN, Probe, TcpSession
from testbed.experiment.verdict import Decision, Finding
from testbed.lab.access import EventLog, LabAccess, StepError
from testbed.packet import ike
from testbed.packet.pcap import packet_mark
from testbed.topology.loaded import LoadedTopology

MARKED: Final = 100
"""Packets of a tap that evidence marks as counted by an expectation, at most."""
PAUSE: Final = 0.25
"""Seconds between two looks while nothing is reported; an event brings the next look at once."""
DAEMONS: Final = ("home-agent", "foreign-agent", "mobile-node")


@dataclass
class Traffic:
    """What runs through the lab during a run."""

    probe: Probe | None = None
    session: TcpSession | None = None
    marked: bool = False  # whether there has been any, so that its payload could be readable


@dataclass
class Observer:
    """Looks at one run in one lab."""

    lab: LabAccess
    captures: Captures
    mark: int  # where the run began in the event log
    folder: str = ""  # the run's folder in the evidence, for references
    traffic: Traffic = field(default_factory=Traffic)
    counters: dict[str, Mapping[str, int]] = field(default_factory=dict)  # node → at the beginning
    _matched: dict[str, list[str]] = field(default_factory=dict)  # by what is judged now

    @property
    def log(self) -> EventLog:
        """The lab's events."""
        return self.lab.log

    def remember_counters(self, node: str) -> None:
        """Take down a daemon's counters at the beginning of a run."""
        self.counters[node] = self._counters(node)

    def _mark(self, matches: Iterable[Matched], counts: Callable[[bytes], bool] = bool) -> None:
        """Remember the first packets that an expectation counts, for the report."""
        self._matched = {
            self._file(match.tap): marks
            for match in matches
            if (marks := [packet_mark(one) for one in match.packets if counts(one)][:MARKED])
        }

    def _file(self, tap: str) -> str:
        return f"{self.folder}captures/{tap.replace('/', '-')}.pcap"

    def judge(self, expectation: Expectation, within: float | None = None) -> Finding:
        """Look until it holds, at most its own `within` or the one given (ms), and say what was seen."""
        bound = expectation.within if expectation.within is not None else within or 0.0
        bound = max(bound, expectation.part.ON_ITS_WAY)
        deadline = time.monotonic() + bound / 1000
        while True:
            mark = self.log.mark()
            self._matched = {}
            try:
                seen = self._look(expectation, bound)
            except StepError as error:
                seen = Decision(None, error.message)
            left = deadline - time.monotonic()
            if seen.held or left <= 0:
                taps = needed_taps(self.lab.topology, expectation)
                files = tuple(map(self._file, taps))
                return Finding(
                    expectation_text(expectation),
                    seen.held,
                    seen.observed,
                    files,
                    bound=expectation.bound(seen.too_much),
                    matched=dict(self._matched),
                )
            if self.log.mark() == mark:
                self.log.pause(min(PAUSE, left))

    def _look(self, expectation: Expectation, bound: float) -> Decision:
        part = expectation.part
        if isinstance(part, SessionState):
            return self._session(part, bound / 1000 or CHECK_WITHIN)
        for kind, look in self._looks():
            if isinstance(part, kind):
                return look(part)
        raise AssertionError(type(part))  # pragma: no cover

    def _looks(self) -> tuple[tuple[type, Callable[[Any], Decision]], ...]:
        return (
            (Packets, self._packets),
            (Clear, self._clear),
            (Ike, self._ike),
            (EspSas, self._esp_sas),
            (Binding, self._binding),
            (Visitor, self._visitor),
            (Counter, self._counter),
            (MobileNodeState, self._mobile_node),
            (Heard, self._heard),
            (Event, self._event),
            (Daemons, self._daemons),
            (Perimeter, partial(perimeter, self.lab, self.captures)),
            (Refused, partial(refused, self.lab.topology)),
            (Accepted, partial(accepted, self.lab.topology)),
            (ProbeResult, self._probe),
            (Hops, self._hops),
            (Reachable, self._reachable),
            (Unreachable, self._unreachable),
        )

    # Wires

    def _packets(self, part: Packets) -> Decision:
        return self._wire(part, part.filter, part.contains.encode() if part.contains else b"")

    def _clear(self, part: Clear) -> Decision:
        if not self.traffic.marked:
            return Decision(None, "no probe and no session was started whose payload could be read")
        return self._wire(part, "ip", READABLE.encode())

    def _wire(self, part: Wire, expression: str, contains: bytes) -> Decision:
        matches = self.captures.match_all(part.at, expression)
        if part.after:
            matches = later(self.captures, part.after, part.at, matches)
        self._mark(matches, lambda packet: contains in packet)
        counts = [sum(contains in packet for packet in match.packets) for match in matches]
        return wire_decision(part, matches, counts)

    def _ike(self, part: Ike) -> Decision:
        matches = self.captures.match_all(part.at, ike.IKE_FILTER)
        found = ike.requests(packet for match in matches for packet in match.packets)
        wanted = ike.EXCHANGES[part.exchange]
        self._mark(matches, lambda packet: any(one.exchange == wanted for one in ike.requests([packet])))
        return wire_decision(part, matches, [sum(one.exchange == wanted for one in found)])

    def _esp_sas(self, part: EspSas) -> Decision:
        matches = self.captures.match_all(part.at, ike.ESP_FILTER)
        self._mark(matches)
        found = ike.associations(packet for match in matches for packet in match.packets)
        return wire_decision(part, matches, [len(found)])

    # Daemons

    def _home_address(self) -> str:
        return str(self.lab.topology.settings[self.lab.mobile_node]["home-address"])

    def _binding(self, part: Binding) -> Decision:
        agent = part.agent or str(self.lab.topology.settings[self.lab.mobile_node]["home-agent"])
        state = self.lab.state(agent, "home-agent")
        ours = [one for one in _rows(state, "bindings") if one.get("home_address") == self._home_address()]
        care_of = [str(address) for one in ours for address in one.get("care_of_addresses", ())]
        text = f"binding to {', '.join(care_of)}" if care_of else "no binding"
        prefix = part.care_of
        found = any(prefix is None or IPv4Address(address) in prefix for address in care_of)
        return Decision(found == part.present, text, found)

    def _visitor(self, part: Visitor) -> Decision:
        state = self.lab.state(part.agent, "foreign-agent")
        found = any(one.get("home_address") == self._home_address() for one in _rows(state, "visitors"))
        text = "in the visitor list" if found else "not in the visitor list"
        return Decision(found == part.present, text, found)

    def _counters(self, node: str) -> Mapping[str, int]:
        roles = self.lab.topology.node(node).roles
        daemon = next((one for one in DAEMONS if one in roles), None)
        if daemon is None:
            raise StepError(f"{node} has no Mobile IP daemon to count")
        counters = self.lab.state(node, daemon).get("counters")
        if not isinstance(counters, dict):
            raise StepError(f"{daemon} of {node} tells no counters")
        return counters

    def _counter(self, part: Counter) -> Decision:
        counters = self._counters(part.node)
        if part.name not in counters:
            raise StepError(f"{part.node} has counted no {part.name}; it tells {', '.join(counters)}")
        if any(
            entry.node == part.node and entry.event.name == "ready" and entry.event.source in DAEMONS
            for entry in self.log.since(self.mark)
        ):
            raise StepError(f"a daemon of {part.node} was started anew, and counts from zero again")
        grown = counters[part.name] - self.counters[part.node].get(part.name, 0)
        return Decision(part.allows(grown), f"grew by {grown}", grown > part.highest)

    def _mobile_node(self, part: MobileNodeState) -> Decision:
        state = self.lab.state(part.node or self.lab.mobile_node, "mobile-node")
        registered, mode = bool(state.get("registered")), state.get("mode")
        where = (
            "home" if state.get("state") == "at-home" else "registered" if registered else "not-registered"
        )
        text = f"{where}, {mode}" if mode and where == "registered" else where
        held = where == part.state and part.attachment in (None, mode)
        return Decision(held, text, part.state == "not-registered")

    def _heard(self, part: Heard) -> Decision:
        addresses = {str(address) for address in self.lab.topology.node(part.agent).links.values()}
        times = sum(
            entry.node == self.lab.mobile_node
            and entry.event.name == "agent-advertisement"
            and entry.event.fields.get("agent") in addresses
            for entry in self.log.since(self.mark)
        )
        if not times and self.lab.mobile_node in self.log.ended:
            return Decision(None, f"the log of {self.lab.mobile_node} ended before the run did")
        return Decision(bool(times) == part.present, "heard" if times else "not heard", bool(times))

    def _event(self, part: Event) -> Decision:
        number = sum(
            entry.node == part.node
            and entry.event.name == part.name
            and part.source in (None, entry.event.source)
            and all(entry.event.fields.get(key) == value for key, value in part.having.items())
            for entry in self.log.since(self.mark)
        )
        ended = part.node in self.log.ended
        held = part.decides(number, inf if ended else number)
        text = f"{number} seen" + (f", but the log of {part.node} ended before the run did" if ended else "")
        return Decision(held, text, number > part.highest)

    def _daemons(self, part: Daemons) -> Decision:
        done = self.lab.execute(part.node, ["sh", "-c", "sv status /etc/testbed/services/*"])
        lines = re.findall(r"^(\w+): \S*/([^/\s]+): (?:\(pid (\d+)\))?", done.text, re.MULTILINE)
        told = {name: word for word, name, _ in lines if word in ("run", "down", "finish")}
        # Its exit code is how many services are not up, which may be others; from 100 on it did not look.
        if done.code >= 100 or not told:
            raise StepError(f"{part.node} does not tell what it runs: {done.complaint}")
        running = ", ".join(f"{name} (pid {pid})" for word, name, pid in lines if word == "run")
        text = f"container {self.lab.container(part.node)[:12]} runs {running or 'no service'}"
        untold = [name for word, name, _ in lines if name in part.running and name not in told]
        missing = [name for name in part.running if told.get(name) != "run" and name not in untold]
        text += f", not {' nor '.join(missing)}" if missing else ""
        text += f", and does not tell of {' and '.join(untold)}" if untold else ""
        return Decision(False if missing else None if untold else True, text)

    # Traffic

    def _probe(self, part: ProbeResult) -> Decision:
        if self.traffic.probe is None:
            return Decision(None, "no probe was started")
        report = self.traffic.probe.stop()
        if not report.sent:
            return Decision(None, "the probe sent nothing")
        longest = report.longest()
        held = (
            (part.lost is None or part.lost.allows(report.lost))
            and (part.outage is None or longest <= part.outage)
            and (part.silent is None or longest >= part.silent)
        )
        return Decision(held, str(report), part.silent is not None and longest < part.silent)

    def _session(self, part: SessionState, within: float) -> Decision:
        if self.traffic.session is None:
            return Decision(None, "no session was started")
        answer = self.traffic.session.check(within)
        alive = bool(answer.get("alive"))
        if alive:
            text = f"alive: new data came back after {answer['after'] * 1000:.0f} ms"
        else:
            text = f"broken: {answer.get('reason') or f'nothing came back in {within:g} s'}"
        text += f" ({answer.get('echoed', 0)} bytes in all)"
        return Decision(alive == (part.state == "alive"), text, alive)

    def _reachable(self, part: Reachable) -> Decision:
        answered, text = ping(self.lab, part, count=3)
        return Decision(answered > 0, text)

    def _unreachable(self, part: Unreachable) -> Decision:
        answered, text = ping(self.lab, part, count=3)
        return Decision(answered == 0, text, answered > 0)

    def _hops(self, part: Hops) -> Decision:
        source = f"-s {source_address(self.lab, part.from_, part.source)}" if part.source else ""
        target = self.lab.topology.primary_address(part.to)
        script = f"traceroute -n -q 1 -w 1 -m 16 {source} {target}"
        done = self.lab.shell(part.from_, script, within=30)
        owners = {
            str(address): name
            for name, node in self.lab.topology.topology.nodes.items()
            for address in node.links.values()
        }
        hops = [
            owners.get(match[1], match[1]) for match in re.finditer(r"^ *\d+ +(\S+)", done.text, re.MULTILINE)
        ]
        if not hops or set(hops) == {"*"}:
            return Decision(None, "no router answered")
        text = f"{' → '.join(hops)}: {len(hops)} hops"
        if set(part.not_through) & set(hops):
            return Decision(False, text, too_much=True)
        if set(part.through) <= set(hops) and not part.not_through:
            return Decision(True, text)
        # Whoever is looked for may be one who did not answer, or come after the last who did.
        if "*" in hops or hops[-1] not in (part.to, str(target)):
            return Decision(None, f"{text}, not all of which are known")
        return Decision(set(part.through) <= set(hops), text)


def needed_taps(topology: LoadedTopology, expectation: Expectation) -> list[str]:
    """Where has to be captured for an expectation: at the taps it names; of a perimeter, at the border."""
    asked = expectation.perimeter is not None and expectation.perimeter.gateways is not None
    return border(topology) if asked else expectation.taps


def wire_decision(count: Count, matches: list[Matched], counts: list[int]) -> Decision:
    """Whether counted packets are as expected; undecidable where nothing could have been seen.

    Silence proves something only while a capture was running; what it lost may have been what is counted, or
    not. Something expected but not found proves nothing where not one packet of any kind was captured.
    """
    number = sum(counts)
    text = f"{number} of {sum(match.total for match in matches)} captured"
    if len(matches) == len(counts) > 1:
        text += f" ({', '.join(f'{match.tap} {one}' for match, one in zip(matches, counts, strict=True))})"
    dead = [match.tap for match in matches if not match.alive]
    if dead:
        return Decision(None, f"the capture at {', '.join(dead)} did not run to the end")
    held = count.decides(number, number + sum(match.dropped for match in matches))
    if held is None:
        lossy = [match.tap for match in matches if match.dropped]
        return Decision(None, f"{text}, but the capture at {', '.join(lossy)} lost packets")
    if not held and number == 0 and not any(match.total for match in matches):
        return Decision(None, "not a single packet of any kind was captured there")
    return Decision(held, text, number > count.highest)


def _rows(state: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    rows = state.get(key)
    if not isinstance(rows, list):
        raise StepError(f"the daemon tells no {key}")
    return rows
