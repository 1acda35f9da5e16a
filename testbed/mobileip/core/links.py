"""Links: their addresses that no host has, and a foreign agent on them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from testbed.mobileip.wire.value import value

BROADCAST = IPv4Address("255.255.255.255")
UNSPECIFIED = IPv4Address(0)
"""Of who has no address yet, and in the place of one that is not known."""


def edges(prefix: IPv4Network) -> tuple[IPv4Address, ...]:
    """The addresses of a link that no host has: of the network itself, and its directed broadcast."""
    return () if prefix.prefixlen >= 31 else (prefix.network_address, prefix.broadcast_address)


def broadcast_addresses(prefix: IPv4Network) -> tuple[IPv4Address, ...]:
    """What a broadcast to the whole of a link may be sent to: the limited and the directed address."""
    return (BROADCAST,) if prefix.prefixlen >= 31 else (BROADCAST, prefix.broadcast_address)


@value
class VisitedLink:
    """A link that mobile nodes visit, and the foreign agent's address there."""

    interface: str
    address: IPv4Address
    prefix_length: int | None = None
    """For the Prefix-Lengths Extension; None sends none. All agents of a link alike."""

    def __post_init__(self) -> None:
        if self.prefix_length is not None and not 0 <= self.prefix_length <= 32:
            raise ValueError(f"the prefix length must be 0 to 32, not {self.prefix_length}")

    @property
    def prefix(self) -> IPv4Network | None:
        """The prefix of the link, where it is known."""
        if self.prefix_length is None:
            return None
        return IPv4Network((self.address, self.prefix_length), strict=False)


def is_unicast(address: IPv4Address) -> bool:
    """Whether a host may have `address`: not 0/8, 127/8, multicast, reserved or the limited broadcast."""
    first = int(address) >> 24
    return 0 < first < 224 and first != 127
