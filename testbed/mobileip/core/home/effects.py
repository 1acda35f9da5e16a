"""What a home agent asks its shell to do, beside what `core.api` has for all."""

from __future__ import annotations

from ipaddress import IPv4Address

from testbed.mobileip.core.api import Effect, TunnelEnd
from testbed.mobileip.wire.value import value


@value
class SetBinding(Effect):
    """Tunnel packets for `home_address` to each end, a care-of address; replaces what was set."""

    home_address: IPv4Address
    ends: tuple[TunnelEnd, ...]
    reverse_tunnel: bool


@value
class ClearBinding(Effect):
    """The mobile node has no binding any more."""

    home_address: IPv4Address


@value
class TunnelDatagram(Effect):
    """Send `datagram`, which is not to `home_address` itself, into its tunnels to some ends."""

    home_address: IPv4Address
    care_of_addresses: tuple[IPv4Address, ...]
    datagram: bytes


@value
class SetGroups(Effect):
    """Be a member of these groups on the home link, and of no others (RFC 5944 §4.4)."""

    groups: frozenset[IPv4Address]


@value
class ProxyArp(Effect):
    """Answer ARP for `home_address` on the home link, or cease to (RFC 5944 §4.6)."""

    home_address: IPv4Address
    enabled: bool
