"""What a foreign agent asks its shell to do, beside what `core.api` has for all."""

from __future__ import annotations

from ipaddress import IPv4Address

from testbed.mobileip.core.api import Effect, TunnelEnd
from testbed.mobileip.wire.value import value


@value
class SetVisitor(Effect):
    """Deliver to and forward for a registered mobile node (RFC 5944 §3.7, §4.2.2)."""

    home_address: IPv4Address
    home_agent: TunnelEnd
    care_of_address: IPv4Address
    interface: str
    link_address: bytes
    reverse_tunnel: bool
    delivery: TunnelEnd | None = None
    """This agent as the end of a tunnel from the mobile node, and only what comes out of that is
    reverse-tunnelled (RFC 3024 §5.2); None: delivery is direct."""


@value
class ClearVisitor(Effect):
    """Forward nothing for this mobile node any more."""

    home_address: IPv4Address
