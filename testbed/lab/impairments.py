"""Delay, jitter, loss and rate of a running lab's networks: brought into force, and seen on a packet.

The hub's relay treats the packets of its network. On a network without a hub every node treats what it sends,
by the kernel's netem.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import permutations
from typing import Any, Final

from testbed.agreed import IMPAIRMENTS, RELAY, Impairment, Op
from testbed.document.read import parse_value
from testbed.document.values import Expected, parse_delay, parse_percent, parse_rate
from testbed.engine.api import Container, Engine
from testbed.errors import MachineError, NotReadyError, UsageError, did_you_mean
from testbed.lab.choices import recorded, remember
from testbed.lab.daemons import ask
from testbed.lab.inside import WITHIN, in_each, run_inside
from testbed.lab.interrupt import Stopping, never
from testbed.lab.lock import lab_lock
from testbed.lab.progress import Progress
from testbed.lab.state import ActualLab, find_lab, node_facts
from testbed.topology.loaded import LoadedTopology
from testbed.topology.model import Network

_SLACK: Final = 0.5  # ms a packet may be early: clocks of the kernel's timers
_PAUSE: Final = 0.2  # seconds between looks
_PATIENCE: Final = 30.0  # seconds until a delay has to be seen
_PARSERS: Final = {
    "delay": parse_delay,
    "jitter": parse_delay,
    "loss": parse_percent,
    "rate": parse_rate,
}
KEYS: Final = tuple(_PARSERS)
"""What can be changed of a network."""
_FIELDS: Final = {"delay": "delay_ms", "jitter": "jitter_ms", "loss": "loss", "rate": "rate"}


def wanted(network: Network) -> Impairment:
    """What the topology says of a network."""
    return Impairment(network.delay, network.jitter, network.loss, float(network.rate or 0))


def in_force(state: Mapping[str, Any]) -> Impairment:
    """What a relay reports, or a node of a network without one."""
    return Impairment(**{field.name: float(state[field.name]) for field in fields(Impairment)})


def _shortest(impairment: Impairment) -> float:
    """The least time in ms that a packet and its answer take."""
    return max(0.0, 2 * (impairment.delay_ms - impairment.jitter_ms))


def parse_change(text: str) -> tuple[str, str, float]:
    """Take `network.internet.delay=80ms` apart: network, `Impairment` field, value. Raises `UsageError`."""
    left, equals, value = text.partition("=")
    words = left.strip().split(".")
    if not equals or len(words) != 3 or words[0] not in ("network", "networks"):
        raise UsageError(
            f"{text}: expected network.NAME.KEY=VALUE", hint="for example network.internet.delay=80ms"
        )
    key = words[2]
    if key not in _PARSERS:
        hint = did_you_mean(key, _PARSERS)
        raise UsageError(f"{text}: expected delay, jitter, loss or rate, got {key}", hint=hint)
    parsed = parse_value(value, text)
    if key == "rate" and parsed is None:
        return words[1], _FIELDS[key], 0.0
    try:
        return words[1], _FIELDS[key], float(_PARSERS[key](parsed))
    except Expected as error:
        hint = error.hint or ("rate=null for no limit" if key == "rate" else None)
        raise UsageError(f"{text}: expected {error.expected}", hint=hint) from error


class Wires:
    """The networks of a running lab, as far as packets are treated on them."""

    def __init__(self, engine: Engine, lab: ActualLab) -> None:
        self._engine = engine
        self._lab = lab
        self._facts = {name: node_facts(container) for name, container in lab.nodes.items()}

    def check_network(self, name: str) -> None:
        """Raise `UsageError` with the nearest name unless the lab has this network."""
        known = {network for facts in self._facts.values() for network in facts.links}
        if name not in known:
            raise UsageError(f"lab {self._lab.name} has no network {name}", hint=did_you_mean(name, known))

    def change(self, network: str, values: Mapping[str, float]) -> Impairment:
        """Change what is named of a network's impairment; return what is in force then.

        Raises `MachineError` where the network has no hub and the kernel no netem.
        """
        hub = self._hub(network)
        if hub is not None:
            request = {"op": Op.SET, **values}
            return in_force(ask(self._engine, self._lab.running_node(hub), RELAY, request))
        # A node that was made anew without `up` has none yet, and gets what the others have.
        before = next((each for each in self._noted(network).values() if each), Impairment())
        impairment = Impairment(**({**asdict(before), **values}))
        self._by_netem(network, impairment)
        return impairment

    def differing(self, topology: LoadedTopology) -> list[str]:
        """The networks with a hub whose impairment is not what the topology says. Raises `TestbedError`."""
        return [
            name
            for name, network in topology.topology.networks.items()
            if network.hub
            and in_force(ask(self._engine, self._lab.running_node(network.hub), RELAY, {"op": Op.STATE}))
            != wanted(network)
        ]

    def bring_into_force(
        self, topology: LoadedTopology, earlier: LoadedTopology, fresh: Collection[str]
    ) -> list[str]:
        """Make every network what the topology says; return those that were not.

        `earlier` says what they may be still, `fresh` which nodes have just begun with what they should have.
        Raises as `change`.
        """
        changed = []
        before = earlier.topology.networks
        for name, network in topology.topology.networks.items():
            due = wanted(network)
            if network.hub in fresh:
                continue
            if network.hub:
                hub = self._lab.running_node(network.hub)
                if in_force(ask(self._engine, hub, RELAY, {"op": Op.STATE})) != due:
                    ask(self._engine, hub, RELAY, {"op": Op.SET, **asdict(due)})
                    changed.append(name)
            elif network.impaired or (name in before and before[name].impaired):
                noted = {node: each or Impairment() for node, each in self._noted(name).items()}
                self._by_netem(name, due)
                if any(each != due for node, each in noted.items() if node not in fresh):
                    changed.append(name)
        return changed

    def see_delay(
        self, network: str, impairment: Impairment, progress: Progress, stopping: Stopping = never
    ) -> None:
        """Return when packets across a hub take as long as they have to; nothing may carry them past it.

        Raises `NotReadyError` where they still take less after half a minute.
        """
        hub = self._hub(network)
        spokes = {
            name: address.split("/")[0]
            for name, facts in self._facts.items()
            if name != hub and (address := facts.links.get(network))
        }
        if hub is None or impairment.loss >= 100 or len(spokes) < 2:
            return
        progress.show(f"waiting for {network} to have its delay")
        deadline = time.monotonic() + _PATIENCE + _shortest(impairment) / 1000
        took: float | None = None
        pairs = [(one, address) for one, other in permutations(spokes, 2) if (address := spokes[other])]
        while time.monotonic() < deadline:
            if stopping():
                raise KeyboardInterrupt
            for one, address in pairs:
                took = self._round_trip(one, address, impairment)
                if took is not None:
                    break
            if took is not None and took >= _shortest(impairment) - _SLACK:
                return
            time.sleep(_PAUSE)
        if took is None:
            progress.say(f"{network}: no packet came back across {hub}, so that its delay was not seen")
            return
        raise NotReadyError(
            f"a packet crosses {network} and comes back in {took:.2f} ms; its delay makes that at least "
            f"{_shortest(impairment):g} ms",
            hint=f"testbed status {self._lab.name}",
        )

    def _round_trip(self, node: str, address: str, impairment: Impairment) -> float | None:
        """The shortest of a few round trips in ms; None where nothing came back."""
        bound = 1 + (impairment.delay_ms + impairment.jitter_ms) * 2 / 1000
        ping = [
            "ping",
            "-n",
            "-q",
            "-c",
            "3",
            "-i",
            "0.02",
            "-w",
            f"{bound:.0f}",
            "-W",
            f"{bound:.0f}",
            address,
        ]
        done = run_inside(self._engine, self._lab.running_node(node), ping, within=bound + WITHIN)
        shortest = re.search(r"min/avg/max/mdev = ([\d.]+)/", done.text)
        return float(shortest[1]) if shortest else None

    def _hub(self, network: str) -> str | None:
        return self._lab.hubs.get(network)

    def _on(self, network: str) -> dict[str, Container]:
        return {
            name: self._lab.running_node(name)
            for name, facts in self._facts.items()
            if network in facts.links
        }

    def _noted(self, network: str) -> dict[str, Impairment | None]:
        """What each node on a network without a hub was last set to; None for a node without a task."""

        def read(name: str, container: Container) -> Impairment | None:
            note = run_inside(self._engine, container, ["cat", f"{IMPAIRMENTS}/{network}.json"])
            return in_force(json.loads(note.text)) if note.code == 0 else None

        return in_each(self._on(network), read)

    def _by_netem(self, network: str, impairment: Impairment) -> None:
        words = [f"--{key.replace('_', '-')}={value:g}" for key, value in asdict(impairment).items()]
        command = ["python3", "-m", "testbed.node.impair", network, *words]

        def impair(name: str, container: Container) -> None:
            done = run_inside(self._engine, container, command)
            if done.code:
                hubs = ", ".join(self._lab.hubs)
                where = f"networks with a hub need none: {hubs}" if hubs else None
                raise MachineError(
                    f"{network} has no hub, and the kernel of {name} cannot treat its packets: "
                    f"{done.complaint}",
                    hint=where,
                )

        in_each(self._on(network), impair)


def change_lab(engine: Engine, lab: str, texts: Sequence[str], progress: Progress) -> dict[str, Impairment]:
    """Carry out `network.NAME.KEY=VALUE` texts on a running lab; return what its networks have then.

    The delay of a network with a hub is seen on a packet before this returns; a later `up` keeps the values.
    Raises `UsageError`, `MachineError` (no netem), `NotReadyError`.
    """
    changes: dict[str, dict[str, float]] = {}
    for network, key, value in map(parse_change, texts):
        changes.setdefault(network, {})[key] = value
    with lab_lock(lab, engine.address):
        found = find_lab(engine, lab)
        wires = Wires(engine, found)
        for network in changes:
            wires.check_network(network)
        before = recorded(engine, found)
        running = {name: each for name, each in found.nodes.items() if each.state == "running"}
        now: dict[str, Impairment] = {}
        for network, values in changes.items():
            now[network] = wires.change(network, values)
            if before is not None:  # at once: what is in force is what a later `up` keeps
                done = [text for text in texts if parse_change(text)[0] == network]
                before = before.with_sets(done)
                remember(engine, running, before)
        for network, impairment in now.items():
            wires.see_delay(network, impairment, progress)
    return now
