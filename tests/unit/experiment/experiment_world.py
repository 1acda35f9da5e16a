"""A lab that is played: its topology is real, its nodes answer what a test tells them to."""

import itertools
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from testbed.errors import StepError
from testbed.evidence.folder import capture_path
from testbed.evidence.health import Health
from testbed.evidence.run import CapturedTap, CaptureRecord
from testbed.experiment.claims import run as run_module
from testbed.lab.access import Entry, EventLog
from testbed.lab.events import NodeEvent
from testbed.lab.inside import Done
from testbed.packet.filters import FilterError
from testbed.packet.pcap import RAW_IP, Frame, write_pcap
from testbed.packet.taps import Matched, TapFrames
from testbed.topology.load import load_topology


class PlayedLab:
    """What `LabAccess` offers, without a container."""

    def __init__(self, ref="scenario-2.1", sets=()):
        self.name = "played"
        self.topology = load_topology(ref, sets=sets)
        self.mobile_node = self.topology.mobile_nodes[0]
        self.log = EventLog()
        self.states = {
            ("ha", "home-agent"): {"bindings": [], "counters": {}},
            ("fa-hotspot", "foreign-agent"): {"visitors": [], "pending": [], "counters": {}},
            ("fa-office", "foreign-agent"): {"visitors": [], "pending": [], "counters": {}},
            ("mn", "mobile-node"): {"state": "detached", "registered": False, "mode": None, "counters": {}},
            ("mn", "roam"): {"network": None, "address": None, "ipsec": {"enabled": True, "inner": None}},
        }
        self.asked = []
        self.ran = []
        self.outputs = {}  # a word of the command → Done
        self.settles = {"state": "registered", "detail": "co-located", "timeline": {"link": 1.0, "data": 9.0}}
        self.clock = itertools.count(1)

    def say(self, node, source, event, **fields):
        stamp = {"monotonic": float(next(self.clock))}
        self.log.add(Entry(node, NodeEvent(event, source, time.time(), {**stamp, **fields})))

    def container(self, node):
        return f"{node}-0123456789abcdef"

    def state(self, node, service):
        state = self.states[node, service]
        if isinstance(state, Exception):
            raise state
        return state

    def control(self, node, service, request, **_):
        self.asked.append((node, service, dict(request)))
        if request["op"] in ("detach", "forget"):
            self.say(node, "mobile-node", "detached")
        if request["op"] in ("move", "ipsec") and self.settles is not None:
            self.say(node, service, "settled", state="superseded", detail="", timeline={})  # the move before
            self.say(node, service, "move-started")
            self.say(node, service, "settled", **self.settles)
        return {"ok": True}

    def execute(self, node, command, *, within=10.0):
        self.ran.append((node, list(command)))
        for word, done in self.outputs.items():
            if any(word in part for part in command):
                return done
        return Done(0, b"", b"")

    def shell(self, node, script, *, within=10.0):
        done = self.execute(node, ["sh", "-ec", script])
        if done.code:
            raise StepError(f"{node}: {done.complaint}")
        return done


class PlayedPulse:
    """What `Pulse` offers: a machine as healthy as a test wants it."""

    def __init__(self, health=None):
        self.health = health or Health(late_ms=1.5)

    def begin(self):
        pass

    def end(self):
        if isinstance(self.health, Exception):
            raise self.health
        return self.health


@dataclass(frozen=True)
class PlayedTap(TapFrames):
    """A capture in which each filter matches what a test put there."""

    played: Any = None

    def match(self, expression, hosts):
        if expression == "len > 9":
            raise FilterError("syntax error in filter")
        packets = self.played.packets.get((self.name, expression), ())
        times = self.played.times.get(self.name, range(len(packets)))
        found = tuple(frame(packet, time) for packet, time in zip(packets, times, strict=False))
        return Matched(self.name, found, max(len(self.frames), len(found)), self.alive, self.dropped)


def frame(packet, time=0.0):
    return Frame(1764000000_000000000 + round(time * 1e9), RAW_IP, packet, len(packet))


OTHER = [frame(bytes(28))] * 5  # no IP


class PlayedCaptures:
    """What `Captures` offers: for each tap and filter what a test put there, and files with other packets."""

    files: ClassVar = {}
    """Tap → IP packets that its file has, beside others."""

    def __init__(self, lab=None, taps=()):
        self.taps = tuple(taps)
        self.packets = {}
        self.times = {}  # of a tap's packets, in seconds; else 0, 1, …
        self.total = 5
        self.alive = True
        self.dropped = 0
        self.calls = []
        self.written = {}

    def start(self):
        self.calls.append("start")

    def stop(self):
        self.calls.append("stop")

    def fetch(self, folder):
        self.calls.append("fetch")
        folder.mkdir(exist_ok=True)
        for tap in self.taps:
            frames = [*map(frame, self.files.get(tap, ())), *OTHER]
            write_pcap(folder.parent / capture_path(tap), RAW_IP, frames)
            self.written[tap] = len(frames)

    def record(self):
        taps = {
            tap: CapturedTap(
                file=capture_path(tap), alive=self.alive, dropped=self.dropped, frames=self.written.get(tap)
            )
            for tap in self.taps
        }
        return CaptureRecord(taps=taps)

    def look(self, taps):
        frames = (frame(b""),) * self.total
        return [PlayedTap(tap, frames, self.alive, self.dropped, played=self) for tap in taps]


def play_captures(monkeypatch, kind=PlayedCaptures):
    """Put played captures in the place of those of every lab in which a run is carried out."""
    played = kind()
    monkeypatch.setattr(run_module, "Captures", lambda lab, taps: played.__init__(lab, taps) or played)
    return played
