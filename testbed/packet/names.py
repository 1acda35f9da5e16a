"""The words for addresses that people read: node names, and where a mobile node is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network

_WELL_KNOWN = {
    IPv4Address("255.255.255.255"): "broadcast",
    IPv4Address("224.0.0.1"): "all-systems",
    IPv4Address("224.0.0.2"): "all-routers",
    IPv4Address("224.0.0.11"): "mobility-agents",
}


class Names:
    """Maps addresses to words: `ha`, `mn` (its home address), `mn@hotel` (its care-of address there).

    Calling it names an address; one that nothing is known of is written as it is.
    """

    def __init__(
        self,
        addresses: Mapping[IPv4Address, str],
        places: Iterable[tuple[IPv4Network, str]] = (),
    ) -> None:
        self.addresses = {**_WELL_KNOWN, **addresses}
        self.places = tuple(places)

    def __call__(self, address: IPv4Address) -> str:
        """The word for an address."""
        known = self.addresses.get(address)
        if known is not None:
            return known
        return next((word for prefix, word in self.places if address in prefix), str(address))

    def node(self, address: IPv4Address) -> str | None:
        """The node an address belongs to; None where it is not known or belongs to none."""
        if address in _WELL_KNOWN:
            return None
        word = self(address)
        if word == str(address) or word.startswith("all@"):
            return None
        node = word.partition("@")[0]
        return None if "/" in node else node  # behind NATs several have this address
