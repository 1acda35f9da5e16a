"""Which encapsulations a request agrees on, and who offers which (RFC 5944 §2.1.1, §3.3, §4.1)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache

from testbed.mobileip.wire import udp_tunnel
from testbed.mobileip.wire.agent_advertisement import AgentFlag
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.registration_request import RequestFlag

ALTERNATIVES = {
    Encapsulation.GRE: (RequestFlag.GRE, AgentFlag.GRE),
    Encapsulation.MINIMAL: (RequestFlag.MINIMAL, AgentFlag.MINIMAL),
}
"""What may take the place of IP in IP, the preferred first, with its bits in requests and advertisements."""
IN_UDP = {
    udp_tunnel.IP_IN_IP: (Encapsulation.UDP,),
    udp_tunnel.GRE: (Encapsulation.GRE_IN_UDP,),
    udp_tunnel.MINIMAL: (Encapsulation.MINIMAL_IN_UDP, Encapsulation.UDP),
}
"""By the number in a UDP Tunnel Request, what the ends of the tunnel use (RFC 3519 §3.3, §4.1).

Fragments are in IP in UDP where the encapsulation is minimal, as they are in IP in IP without UDP.
"""
NUMBERS = {
    Encapsulation.IP_IN_IP: udp_tunnel.IP_IN_IP,
    Encapsulation.GRE: udp_tunnel.GRE,
    Encapsulation.MINIMAL: udp_tunnel.MINIMAL,
}
"""What asks in a UDP Tunnel Request for an encapsulation."""


@cache
def agreed(flags: int) -> tuple[Encapsulation, ...]:
    """What the two ends of a tunnel may use once a request with these flags is granted, the best first.

    IP in IP is always among it: everybody has it (RFC 5944 §4.1), a mobile node may use the alternative "at
    its discretion" (RFC 3024 §4.1.2), and minimal encapsulation cannot carry fragments (RFC 2004 §3).
    """
    asked = (each for each, (bit, _) in ALTERNATIVES.items() if flags & bit)
    return (*asked, Encapsulation.IP_IN_IP)


def available(flags: int, offered: Collection[Encapsulation]) -> bool:
    """Whether all that a request with these flags asks for is `offered`, by an agent or its advertisement."""
    *asked, _ = agreed(flags)
    return not asked or all(each in offered for each in asked)


def advertised(flags: int) -> tuple[Encapsulation, ...]:
    """What an advertisement with these flags offers beside IP in IP."""
    return tuple(each for each, (_, bit) in ALTERNATIVES.items() if flags & bit)


def request_bits(encapsulation: Encapsulation) -> int:
    """The bit of a request that asks for `encapsulation`; 0 for IP in IP."""
    return int(ALTERNATIVES[encapsulation][0]) if encapsulation in ALTERNATIVES else 0


def advertisement_bits(offered: Iterable[Encapsulation]) -> int:
    """The bits of an advertisement that offer these."""
    return sum(int(bit) for each, (_, bit) in ALTERNATIVES.items() if each in set(offered))
