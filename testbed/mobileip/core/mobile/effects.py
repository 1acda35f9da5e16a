"""What a mobile node asks its shell to do, beside what `core.api` has for all."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from testbed.mobileip.core.api import Effect, FormerTunnel, TunnelEnd
from testbed.mobileip.wire.value import value


@value
class UseHomeAddress(Effect):
    """`home_address` is the home address from now on, in place of any before (RFC 2794)."""

    home_address: IPv4Address


@value
class UseCoLocated(Effect):
    """Registered with a co-located care-of address on `interface`."""

    interface: str
    care_of_address: IPv4Address
    home_agent: TunnelEnd
    reverse_tunnel: bool
    former: tuple[FormerTunnel, ...] = ()


@value
class UseForeignAgent(Effect):
    """Use the agent as default router on `interface` (RFC 5944 §4.2.1).

    `registered` is false while a registration through it is still being asked for.
    """

    interface: str
    agent: IPv4Address
    agent_link_address: bytes
    registered: bool
    broadcasts_from: IPv4Address | None = None
    """The home agent whose datagrams to the home address hold others (RFC 5944 §4.3, §4.4); None: none do."""
    former: tuple[FormerTunnel, ...] = ()
    tunnel: TunnelEnd | None = None
    """The agent as the end of a tunnel (RFC 3024 §5.2); None: delivery is direct."""
    local: tuple[IPv4Network, ...] = ()
    """Destinations that are delivered directly all the same, and so not reverse-tunnelled (RFC 3024 §5.4)."""


@value
class UseHome(Effect):
    """At home on `interface`, no mobility services (RFC 5944 §4.2.1 end, §4.6)."""

    interface: str
    router: IPv4Address | None


@value
class UseNothing(Effect):
    """No registration holds; take the tunnel and its routes down."""
