"""What a word works with: the topology's facts, the lab that it looks at, and what it judges.

A word *looks* while the run goes on and *judges* from what was recorded. A judge has no other source, so it
decides the same of a running lab and of an evidence folder.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from testbed.claim.probe import ProbeReport
from testbed.document.functions import Meaning
from testbed.errors import StepError
from testbed.packet.taps import Matched


class Machine(Protocol):
    """A node of the topology (`model.Node`, which is built on this room)."""

    roles: list[str]
    links: dict[str, IPv4Address]
    attaches: list[str]


class Wire(Protocol):
    """A network of the topology (`model.Network`)."""

    @property
    def domain(self) -> str:
        """`intranet`, `internet` …"""

    @property
    def subnet(self) -> IPv4Network:
        """Its prefix."""


class Daemon(Protocol):
    """A service of a node, as the manifest of its role declares it (`roles.Service`)."""

    @property
    def control(self) -> str | None:
        """The name of its control socket."""

    @property
    def flush(self) -> Sequence[str]:
        """The lists in its state that the request `flush` empties."""

    @property
    def ike_sas(self) -> str | None:
        """A command that prints its IKE SAs."""


class Facts(Protocol):
    """What the topology says of a lab (`LoadedTopology`)."""

    @property
    def nodes(self) -> Mapping[str, Machine]:
        """Every node by name."""

    @property
    def networks(self) -> Mapping[str, Wire]:
        """Every network by name."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Every option with the value chosen, else its default."""

    @property
    def mobile_nodes(self) -> tuple[str, ...]:
        """The nodes that attach to networks; a run speaks of the first where it names none."""

    def with_role(self, role: str) -> tuple[str, ...]:
        """The nodes that have a role, or one that acts as it."""

    def home_address(self, node: str) -> IPv4Address | None:
        """The home address of a mobile node."""

    def home_agent(self, node: str) -> str | None:
        """The home agent of a mobile node."""

    def home_agents(self, node: str) -> tuple[str, ...]:
        """The home agents of a mobile node: its own, and the others that it asks in turn."""

    def correspondent(self, node: str) -> str | None:
        """The node that a mobile node speaks to, to see that a hand-off has ended."""

    def forwards(self, node: str) -> bool:
        """Whether a node forwards packets between its interfaces."""

    def meant(self, node: str, meaning: Meaning) -> Any:
        """The value that a node gives to what is meant; None where it gives none."""

    def outside_address(self, node: str) -> IPv4Address:
        """The address of a node on its untrusted link."""

    def border(self) -> tuple[str, ...]:
        """The taps where what the outside sends to the Intranet arrives."""

    def daemons(self, node: str) -> Sequence[Daemon]:
        """The services of a node."""

    def services(self, node: str) -> Collection[str]:
        """The names of a node's services."""

    def reporting(self, node: str, what: str) -> Sequence[Daemon]:
        """The services of a node in whose state something can be read."""

    def primary_address(self, node: str) -> IPv4Address | None:
        """The address that a node is known by."""


class Done(Protocol):
    """What a command in a node ended with."""

    @property
    def code(self) -> int:
        """Its exit code."""

    @property
    def text(self) -> str:
        """Its standard output."""

    @property
    def complaint(self) -> str:
        """The last line of its standard error, for messages."""


class Lab(Protocol):
    """The running lab. Every method raises `StepError` where something cannot be asked."""

    @property
    def facts(self) -> Facts:
        """The topology of the lab."""

    def state(self, node: str, service: str) -> Mapping[str, Any]:
        """What a daemon says of itself."""

    def execute(self, node: str, command: Sequence[str], *, within: float = 10.0) -> Done:
        """Run a command in a node to its end, for `within` seconds at most."""


class Looker(Lab, Protocol):
    """The lab, for an expectation that looks at it."""

    @property
    def bound(self) -> float:
        """How long what is expected may take, in ms; 0: it has to hold now."""

    def container(self, node: str) -> str:
        """The id of a node's container."""

    def probe(self) -> ProbeReport | None:
        """End the running probe; returns its report, None where none was started."""

    def session(self, within: float) -> dict[str, Any] | None:
        """Whether data that the TCP session sends now comes back in so many seconds; None without one."""

    def printed(self, node: str) -> Sequence[str]:
        """What the daemons of a node wrote to standard error since the run began, in lines."""

    def other(self, topology: str) -> Facts:
        """Another topology, a built-in one, with this one's options as far as it has them."""

    def differences(self, node: str, topology: str, other: str, what: str) -> Mapping[str, Any]:
        """What of a node is not as of the node `other` of another topology, a built-in one.

        Of its `configuration`, file → changed lines; of its `services`, service → how; of its `software`,
        image or file → how.
        """

    def refusal(self, changes: Sequence[str]) -> str:
        """Why the run's topology with these changes is refused; empty where it is accepted."""


class Reported(Protocol):
    """An event that a node wrote to its log."""

    @property
    def node(self) -> str:
        """The node."""

    @property
    def name(self) -> str:
        """What happened."""

    @property
    def source(self) -> str:
        """`init`, or the service that it comes from."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """The rest of the line."""

    @property
    def wall(self) -> float:
        """When it arrived, in s since the epoch, by the engine's clock."""

    @property
    def monotonic(self) -> float | None:
        """When it happened, in s of a clock that the nodes of one host share."""


class Wires(Protocol):
    """The captures of a run."""

    def match_all(self, taps: Sequence[str], expression: str) -> list[Matched]:
        """The packets of each tap that a pcap filter matches. Raises `StepError`."""


@dataclass(frozen=True)
class Sight:
    """What was recorded until one look at the lab, that look included."""

    facts: Facts
    wires: Wires
    """Captures until then."""
    seen: Any = None
    """What `look` returned, as JSON."""
    events: Sequence[Reported] = ()
    """Events of the run until then."""
    ended: Collection[str] = ()
    """Nodes whose log had ended: what they reported afterwards, if anything, is not known."""
    began: Any = None
    """What `begin` returned at the beginning of the run, as JSON."""
    marked: bool = False
    """Whether there was traffic whose payload could be read."""

    @property
    def mobile_node(self) -> str:
        """The node that a run speaks of where it names none."""
        return self.facts.mobile_nodes[0]

    @property
    def home_address(self) -> str:
        """The home address of that node."""
        return str(self.facts.home_address(self.mobile_node))


class Decision(NamedTuple):
    """Whether an expectation holds (None: undecided), and what was observed."""

    held: bool | None
    observed: str
    too_much: bool = False
    """Not held, because of something seen rather than of something missing."""
    counted: Mapping[str, Sequence[str]] = MappingProxyType({})
    """Tap → marks of the packets that were counted, for the report."""
    certain: bool = False
    """Not held on any machine, however fast."""


def rows(state: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The rows of a list that a daemon reports. Raises `StepError` where it reports none."""
    found = state.get(key)
    if not isinstance(found, list):
        raise StepError(f"the daemon reports no {key}")
    return found
