"""A lab that is played: its topology is real, its nodes answer what a test tells them to."""

import itertools
import time

from testbed.experiment.captures import Matched
from testbed.experiment.health import Health
from testbed.lab.access import Entry, EventLog, StepError
from testbed.lab.events import NodeEvent
from testbed.lab.inside import Done
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
        if request["op"] == "detach":
            self.say(node, service, "detached")
        if request["op"] in ("move", "ipsec") and self.settles is not None:
            self.say(node, "roam", "settled", state="superseded", detail="", timeline={})  # the move before
            self.say(node, "roam", "move-started")
            self.say(node, "roam", "settled", **self.settles)
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
        self.health = health or Health(1.5)

    def begin(self):
        pass

    def end(self):
        if isinstance(self.health, Exception):
            raise self.health
        return self.health


class PlayedCaptures:
    """What `Captures` offers: for each tap and filter what a test put there."""

    def __init__(self, lab=None, taps=()):
        self.taps = tuple(taps)
        self.packets = {}
        self.times = {}  # of a tap's packets, in seconds; else 0, 1, …
        self.total = 5
        self.alive = True
        self.dropped = 0
        self.calls = []

    def start(self):
        self.calls.append("start")

    def stop(self):
        self.calls.append("stop")

    def fetch(self, folder):
        self.calls.append("fetch")
        return []

    def match(self, tap, expression):
        if expression == "len > 9":
            raise StepError("syntax error in filter")
        found = tuple(self.packets.get((tap, expression), ()))
        times = self.times.get(tap, range(len(found)))
        times = tuple(1764000000.0 + time for time in times)[: len(found)]
        return Matched(tap, found, times, max(self.total, len(found)), self.alive, self.dropped)

    def match_all(self, taps, expression):
        return [self.match(tap, expression) for tap in taps]
