"""What goes into the Mobile IPv4 state machines and what comes out of them.

The cores know no clock and no socket.  The shell (`testbed.mobileip.io`) feeds them datagrams and `now`
(seconds of a monotonic clock; NTP time for identifications comes from the `Clock` callable a core is built
with), carries out the effects that `effects()` drains, and calls `tick(now)` no later than `deadline()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from ipaddress import IPv4Address
from typing import Any, Protocol

from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.value import value

Clock = Callable[[float], float]
"""Maps the monotonic `now` to Unix time in seconds: the time of day of identifications (RFC 5944 §5.7.1)."""


@value
class Datagram:
    """A UDP datagram of the registration protocol (RFC 5944 §3), received or to be sent."""

    payload: bytes
    source: IPv4Address
    source_port: int
    destination: IPv4Address
    destination_port: int
    interface: str | None = None
    """Where it came in, or must go out; None lets routing decide."""
    ttl: int = 64
    link_address: bytes | None = None
    """Link-layer source (received) or destination (to be sent), where known and needed."""


@value
class AgentMessage:
    """An ICMP message of agent discovery (RFC 5944 §2): the ICMP bytes, checksum included."""

    payload: bytes
    source: IPv4Address
    destination: IPv4Address
    interface: str
    ttl: int = 1
    link_address: bytes | None = None


@value
class TunnelEnd:
    """The other end of a tunnel, and how datagrams are carried to it and from it."""

    address: IPv4Address
    encapsulations: tuple[Encapsulation, ...] = (Encapsulation.IP_IN_IP,)
    """What goes in has the first; what comes out may have any."""
    local_port: int = PORT
    remote_port: int = PORT
    """The UDP ports of `Encapsulation.UDP`: ours, and the other end's as a NAT shows it to us."""


@value
class FormerTunnel:
    """Mobile node: a tunnel to an earlier care-of address, out of which datagrams still come (S bit)."""

    care_of_address: IPv4Address
    home_agent: TunnelEnd


class Effect:
    """What a core asks its shell to do; `core.home.effects` and its like have those of one role."""

    __slots__ = ()


@value
class SendDatagram(Effect):
    """Send a registration message."""

    datagram: Datagram


@value
class SendAgentMessage(Effect):
    """Send an agent advertisement or solicitation."""

    message: AgentMessage


@value
class SendOnHomeLink(Effect):
    """Home agent: put a datagram to everybody or to a group on the home link, as it is."""

    datagram: bytes


@value
class GratuitousArp(Effect):
    """Broadcast a gratuitous ARP for `address` (RFC 5944 §4.6) once; the core itself repeats it."""

    address: IPv4Address
    interface: str | None = None
    """None: the home agent's home link."""
    link_address: bytes | None = None
    """The hardware address announced; None: this node's own on that link."""


@value
class ReportEvent(Effect):
    """Something an observer wants to know, e.g. `registered`, `reply-code`, `binding-expired`."""

    name: str
    fields: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)


Record = Mapping[str, Any]
"""What is to be remembered about one mobile node, in JSON's terms; times are Unix times."""

Records = Mapping[IPv4Address | str, Record]
"""Records by what the mobile nodes are known by: home addresses, or NAIs (RFC 2794)."""


@value
class Remember(Effect):
    """Keep `record` beyond the end of this process, in place of what was kept before; None: nothing.

    It is kept before any other effect is carried out: nothing is granted whose identification could be
    accepted again after a restart (RFC 5944 §5.7.1). Where it cannot be kept, the core's `Refused`
    says what to do instead of the effects it came with.
    """

    node: IPv4Address | str
    """What it is known by: its home address, or its NAI (RFC 2794)."""
    record: Record | None


Refused = Callable[[Sequence[Effect], Mapping[int, str]], tuple[list[Effect], list[Effect]]]
"""Of a core that grants registrations: takes back what could not be carried out.

It takes effects, just fetched, and the positions of those that were refused, each with the reason; it returns
what is left of them, and what to do besides: denials, and the undoing of what was done. What such a core asks
of the kernel is carried out before anybody hears of it; "insufficient resources" (RFC 5944 §3.4) is the
answer where that fails.
"""


class Core(Protocol):
    """What every state machine offers its shell."""

    def receive(self, datagram: Datagram, now: float) -> None:
        """Take a UDP datagram that arrived at port 434 (or the port a request was sent from)."""

    def receive_agent_message(self, message: AgentMessage, now: float) -> None:
        """Take an ICMP type 9 or 10 message."""

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""

    def deadline(self) -> float | None:
        """The next `now` at which `tick` has something to do; None when only input can change anything."""

    def effects(self) -> list[Effect]:
        """Drain the effects since the last call, in order."""

    def state(self, now: float) -> dict[str, object]:
        """A JSON-serialisable picture at `now`: state, bindings or visitors with lifetimes left, counters."""
