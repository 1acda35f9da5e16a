"""What a lab is like at this moment, put together from what its daemons say and its nodes report."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from testbed.agreed import MOVE_STARTED, ROAM, SETTLED
from testbed.document.functions import Function
from testbed.lab.access import Entry
from testbed.lab.describe import mobile_node

ECHOES: Final = 120
"""Answers to the probe that are remembered."""
_STEPS: Final = ("link", "address", "ike", "registered", "data")
_CALLED: Final = {"registered": "registration"}


@dataclass(slots=True)
class Handoff:
    """A move as it happens: its steps in ms since it began."""

    network: str
    steps: dict[str, float] = field(default_factory=dict)
    state: str = ""
    """How it ended; "" while it goes on."""
    ms: float = 0.0


@dataclass(slots=True)
class Mobile:
    """A mobile node."""

    node: str
    networks: tuple[str, ...]
    """Those that it can attach to."""
    network: str = ""
    """Where it is; "" on the way and nowhere."""
    words: str = ""
    ipsec: str = ""
    """`up` with the inner address, `down`, `not needed inside`, `off` (taken down); "" where it has none."""
    registration: str = ""
    expires: float | None = None
    """When its registration ends, in s of the picture's clock."""
    handoff: Handoff | None = None
    echoes: deque[float | None] = field(default_factory=lambda: deque(maxlen=ECHOES))
    """Round-trip times of the probe in ms; None for what was lost."""
    probed: int = -1
    """The number of the last of them."""

    @property
    def lost(self) -> int:
        """How many of the remembered probes were lost."""
        return sum(echo is None for echo in self.echoes)


@dataclass(frozen=True, slots=True)
class Registered:
    """A binding of a home agent or a visitor of a foreign agent."""

    name: str
    """The mobile node's home address, with its identifier where it has one."""
    at: str
    """Care-of addresses of a binding, the link of a visitor."""
    expires: float | None


@dataclass(slots=True)
class Agent:
    """A home or foreign agent."""

    node: str
    service: str
    role: str
    entries: tuple[Registered, ...] = ()


@dataclass(slots=True)
class Picture:
    """The whole of it. Times are seconds of the clock that `now` of each call is read from."""

    lab: str
    mobiles: dict[str, Mobile]
    agents: dict[tuple[str, str], Agent] = field(default_factory=dict)
    associations: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Gateway → its IKE SAs, in words."""
    failed: frozenset[str] = frozenset()
    """Links that were cut, NODE/NETWORK."""
    silent: frozenset[str] = frozenset()
    """NODE or NODE/SERVICE that does not answer."""

    def daemon(self, node: str, service: str, state: Mapping[str, Any] | None, now: float) -> None:
        """Take a daemon's answer to `state`; None where it does not answer."""
        name = f"{node}/{service}"
        self.silent = self.silent - {name} if state is not None else self.silent | {name}
        if state is None:
            return
        role = str(state.get("role", service))
        if service == ROAM and node in self.mobiles:
            self._roam(self.mobiles[node], state)
        elif role == Function.MOBILE_NODE and node in self.mobiles and service == Function.MOBILE_NODE:
            mobile = self.mobiles[node]
            mobile.registration = str(state.get("state", ""))
            mobile.expires = _end(state, now)
        elif role in (Function.HOME_AGENT, Function.FOREIGN_AGENT):
            entries = state.get("bindings" if role == Function.HOME_AGENT else "visitors", ())
            agent = Agent(node, service, role, tuple(_registered(each, now) for each in entries))
            self.agents = {**self.agents, (node, service): agent}  # others may be reading the old one

    def _roam(self, mobile: Mobile, state: Mapping[str, Any]) -> None:
        moving = bool(state.get("moving"))
        mobile.network = "" if moving else str(state.get("network") or "")
        mobile.words = mobile_node(state)
        ipsec = state.get("ipsec") or {}
        if not ipsec or state.get("stack") == "mip-only":
            mobile.ipsec = ""  # it has none that could be up or down
        elif ipsec.get("up"):
            mobile.ipsec = f"up, inner address {ipsec['inner']}" if ipsec.get("inner") else "up"
        elif not ipsec.get("enabled"):
            mobile.ipsec = "off"
        else:
            mobile.ipsec = "not needed inside" if state.get("inside") else "down"

    def happened(self, entry: Entry) -> bool:
        """Take an event of a node; return whether it changed the picture."""
        mobile = self.mobiles.get(entry.node)
        if mobile is None or entry.source != ROAM:
            return False
        fields = entry.fields
        if entry.name == MOVE_STARTED:
            mobile.handoff = Handoff(str(fields.get("network", "")))
            mobile.network = ""
            return True
        handoff = mobile.handoff
        if handoff is None or fields.get("network") != handoff.network:
            return False
        if entry.name == SETTLED:
            steps = {step: ms for step, ms in (fields.get("timeline") or {}).items() if ms is not None}
            handoff.steps = steps or handoff.steps
            handoff.state, handoff.ms = str(fields.get("state", "")), float(fields.get("ms") or 0.0)
            mobile.network = handoff.network
        elif entry.name in _STEPS and "ms" in fields and not handoff.state:
            handoff.steps[_CALLED.get(entry.name, entry.name)] = float(fields["ms"])
        else:
            return False
        return True

    def gateway(self, node: str, associations: tuple[str, ...]) -> bool:
        """Take the IKE SAs of a gateway, in words; return whether they are others than before."""
        changed = self.associations.get(node) != associations
        self.associations = {**self.associations, node: associations}
        return changed

    def probe_begins(self, node: str) -> None:
        """The numbers of a mobile node's probes begin anew."""
        self.mobiles[node].probed = -1

    def echo(self, node: str, number: int, ms: float | None) -> None:
        """Take the answer to a numbered probe; None where there is none yet, which a late answer corrects."""
        mobile = self.mobiles[node]
        behind = mobile.probed - number
        if 0 <= behind < len(mobile.echoes):
            mobile.echoes[-1 - behind] = ms
        elif behind < 0:
            mobile.echoes.append(ms)
            mobile.probed = number

    def to_dict(self, now: float) -> dict[str, Any]:
        """As JSON has it, with seconds left in the place of moments."""
        return {
            "lab": self.lab,
            "mobiles": [
                {
                    "node": one.node,
                    "networks": one.networks,
                    "network": one.network,
                    "words": one.words,
                    "ipsec": one.ipsec,
                    "registration": one.registration,
                    "left": left(one.expires, now),
                    "handoff": asdict(one.handoff) if one.handoff else None,
                    "echoes": list(one.echoes),
                }
                for one in self.mobiles.values()
            ],
            "agents": [
                {
                    "node": one.node,
                    "service": one.service,
                    "role": one.role,
                    "entries": [
                        {"name": each.name, "at": each.at, "left": left(each.expires, now)}
                        for each in one.entries
                    ],
                }
                for one in self.agents.values()
            ],
            "associations": self.associations,
            "failed": sorted(self.failed),
            "silent": sorted(self.silent),
        }


def left(expires: float | None, now: float) -> float | None:
    """Seconds left, not below 0."""
    return None if expires is None else max(0.0, expires - now)


def _end(state: Mapping[str, Any], now: float) -> float | None:
    seconds = state.get("lifetime_left")
    return now + seconds if isinstance(seconds, int | float) else None


def _registered(each: Mapping[str, Any], now: float) -> Registered:
    nai = each.get("nai")
    at: Sequence[str] = each.get("care_of_addresses") or [str(each.get("interface", ""))]
    return Registered(
        f"{each['home_address']} ({nai})" if nai else str(each["home_address"]),
        ", ".join(at),
        _end(each, now),
    )
