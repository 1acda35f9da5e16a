"""Keeping the mapping of a NAT for a tunnel in UDP, and noticing that it was lost (RFC 3519 §4.9, §4.10).

A keepalive is an ICMP echo request from the home address to the home agent, in the tunnel; that its reply
comes back shows that the tunnel works both ways. That data may have kept the mapping is not looked at: a
keepalive too many does no harm.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Datagram, SendDatagram
from testbed.mobileip.core.timers import Timers
from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.echo import REPLY, REQUEST, Echo
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.udp_tunnel import IP_IN_IP, TunnelData

SHORTEST = 10.0
"""Seconds between two keepalives at least (§4.10)."""
RETRIES = 2
"""Keepalives sent again, after one second and two more; four seconds later the mapping is taken for lost."""
IDENTIFIER = 434
"""Of our echo requests: by it the kernel hands us their replies."""


@dataclass(slots=True)
class _Tunnel:
    outer: Datagram
    interval: float
    encapsulation: int
    unanswered: int = 0
    sequence: int = 0


class Keepalives:
    """Of the tunnels that have their non-home end here, by home address."""

    def __init__(self, default: float, counters: Counter[str], port: int = PORT) -> None:
        """`default` is the interval, in seconds, where the home agent says none; `port` is our UDP port."""
        self._port = port
        self._default = default
        self._counters = counters
        self._tunnels: dict[IPv4Address, _Tunnel] = {}
        self._shorter: dict[IPv4Address, tuple[Datagram, float]] = {}
        self._timers: Timers[IPv4Address] = Timers()

    def interval(self, home_address: IPv4Address) -> float | None:
        """Seconds between the keepalives of a tunnel; None where there is no tunnel."""
        tunnel = self._tunnels.get(home_address)
        return tunnel.interval if tunnel else None

    def keep(
        self,
        home_address: IPv4Address,
        ends: tuple[IPv4Address, IPv4Address, str | None],
        interval: float,
        sent: float,
        encapsulation: int = IP_IN_IP,
    ) -> float:
        """Keep a tunnel alive, of whose `ends` something was last `sent` to the other one.

        `ends` are our address, the home agent's, and the interface; `interval` is what the home agent says,
        in seconds, 0 for none; `encapsulation` is what the tunnel's messages carry (§3.3). Returns the
        interval that applies: where a mapping was lost between the same ends, the shorter one chosen then.
        """
        interval = interval or self._default
        source, home_agent, interface = ends
        outer = Datagram(b"", source, self._port, home_agent, PORT, interface)
        at, shorter = self._shorter.pop(home_address, (outer, interval))
        if at == outer and shorter < interval:  # §4.10: elsewhere there is another NAT
            self._shorter[home_address] = outer, shorter
            interval = shorter
        interval = max(SHORTEST, interval)
        known = self._tunnels.get(home_address)
        sequence = known.sequence if known else 0
        self._tunnels[home_address] = _Tunnel(outer, interval, encapsulation, sequence=sequence)
        self._timers.set(home_address, sent + interval)
        return interval

    def probe(self, home_address: IPv4Address, now: float) -> None:
        """Send a keepalive at the next tick: the other end waits for the first (§4.4)."""
        self._timers.set(home_address, now)

    def cease(self, home_address: IPv4Address) -> None:
        """The tunnel is not used any more."""
        self._tunnels.pop(home_address, None)
        self._timers.cancel(home_address)

    def clear(self) -> None:
        """No tunnel is used any more."""
        self._tunnels.clear()
        self._timers.clear()

    def deadline(self) -> float | None:
        """When `tick` has something to do next."""
        return self._timers.next()

    def tick(self, now: float) -> tuple[list[SendDatagram], list[IPv4Address]]:
        """The keepalives that are due, and the home addresses of tunnels whose mapping is lost."""
        due, lost = [], []
        for home_address in self._timers.pop_due(now):
            tunnel = self._tunnels[home_address]
            if tunnel.unanswered > RETRIES:
                self._counters["mappings-lost"] += 1
                tunnel.unanswered = 0
                self._timers.set(home_address, now + tunnel.interval)
                lost.append(home_address)
                continue
            tunnel.sequence = (tunnel.sequence + 1) & 0xFFFF
            echo = Echo(REQUEST, IDENTIFIER, tunnel.sequence)
            inner = echo.datagram(home_address, tunnel.outer.destination)
            message = TunnelData.around(tunnel.encapsulation, inner)
            due.append(SendDatagram(replace(tunnel.outer, payload=message.encode())))
            self._counters["keepalives-sent"] += 1
            self._timers.set(home_address, now + 2.0**tunnel.unanswered)
            tunnel.unanswered += 1
        return due, lost

    def shorten(self, home_address: IPv4Address) -> float:
        """Let keepalives between these ends come twice as often, within `SHORTEST`; returns the interval."""
        tunnel = self._tunnels[home_address]
        tunnel.interval = max(SHORTEST, tunnel.interval / 2)
        self._shorter[home_address] = tunnel.outer, tunnel.interval
        return tunnel.interval

    def receive(self, datagram: Datagram, now: float) -> None:
        """Take a tunnel data message, the reply to a keepalive maybe; anything else is the data plane's."""
        try:
            message = TunnelData.decode(datagram.payload)
            inner = message.datagram(datagram.source, datagram.destination)
            source, home_address, echo = Echo.from_datagram(inner)
        except WireError:
            return
        tunnel = self._tunnels.get(home_address)
        if tunnel is None or message.next_header != tunnel.encapsulation:
            return
        outer = tunnel.outer
        # §4.3: the ends of the tunnel, and no others.
        if (datagram.source, datagram.source_port, source) != (outer.destination, PORT, outer.destination):
            return
        if echo == Echo(REPLY, IDENTIFIER, tunnel.sequence) and tunnel.unanswered:
            self._counters["keepalives-answered"] += 1
            tunnel.unanswered = 0
            self._timers.set(home_address, now + tunnel.interval)
