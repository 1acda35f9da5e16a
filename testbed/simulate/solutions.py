"""The networks and agents of each solution that can be simulated, after the topologies of the same names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address, IPv4Network
from typing import Final


class Zone(Enum):
    """Which side of the VPN gateway a link is on."""

    OUTSIDE = "outside"
    INSIDE = "inside"
    TUNNEL = "tunnel"  # outside, but all of it goes through IPsec to the gateway


class Offer(Enum):
    """What a mobile node finds on a link."""

    ADDRESS = auto()
    FOREIGN_AGENT = auto()
    HOME_AGENT = auto()


@dataclass(frozen=True, slots=True)
class Site:
    """A network that mobile nodes attach to."""

    name: str
    zone: Zone
    offer: Offer
    prefix: IPv4Network

    def address(self, number: int) -> IPv4Address:
        """What its DHCP server lends the mobile node `number`."""
        return self.prefix[_FIRST + number]


@dataclass(frozen=True, slots=True)
class Solution:
    """Where mobile nodes roam, and by what they reach their home agent from there."""

    name: str
    home: Site
    sites: tuple[Site, ...]
    """Where they roam; also home, where that is among them."""
    gateway: bool = False
    """Whether the home agent is behind a VPN gateway, which lets only IPsec in."""
    outer: bool = False
    """Whether there is a home agent outside as well, and IPsec from the home address there (RFC 5265)."""

    def site(self, name: str) -> Site:
        """The site of a name. Raises KeyError."""
        return {each.name: each for each in (*self.sites, self.home)}[name]


_FIRST = 256
HOME_AGENT = _FIRST - 2
"""The number of the home agent's address within the home prefix."""


def _site(name: str, zone: Zone, offer: Offer, first: int) -> Site:
    return Site(name, zone, offer, IPv4Network((first << 24, 8)))


HOTSPOT: Final = _site("hotspot", Zone.OUTSIDE, Offer.FOREIGN_AGENT, 11)
HOTEL: Final = _site("hotel", Zone.OUTSIDE, Offer.ADDRESS, 12)
AIRPORT: Final = _site("airport", Zone.OUTSIDE, Offer.ADDRESS, 13)
OFFICE: Final = _site("office", Zone.INSIDE, Offer.FOREIGN_AGENT, 14)
CAMPUS: Final = _site("campus", Zone.INSIDE, Offer.ADDRESS, 15)
INNER: Final = _site("ipsec", Zone.TUNNEL, Offer.ADDRESS, 16)
"""Not a network, but the addresses that the gateway lends."""
OUTER_HOME: Final = _site("x-home", Zone.OUTSIDE, Offer.HOME_AGENT, 17)
"""The virtual home network of the home agent outside."""
_PUBLIC_HOME = _site("home", Zone.OUTSIDE, Offer.HOME_AGENT, 10)
_PRIVATE_HOME = _site("home", Zone.INSIDE, Offer.HOME_AGENT, 10)
_INSIDE = (OFFICE, CAMPUS, _PRIVATE_HOME)
_TRUSTED_HOTSPOT = _site("hotspot", Zone.TUNNEL, Offer.FOREIGN_AGENT, 11)

SOLUTIONS: Final = {
    solution.name: solution
    for solution in (
        Solution("plain-mip", _PUBLIC_HOME, (HOTSPOT, HOTEL, AIRPORT, _PUBLIC_HOME)),
        Solution("nothing", _PRIVATE_HOME, (HOTEL, AIRPORT, *_INSIDE), gateway=True),
        Solution("trusted-fa", _PRIVATE_HOME, (_TRUSTED_HOTSPOT, HOTEL, AIRPORT, *_INSIDE), gateway=True),
        Solution("dual-ha", _PRIVATE_HOME, (HOTEL, AIRPORT), gateway=True, outer=True),
    )
}
