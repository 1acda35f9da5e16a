"""The home addresses that a home agent assigns to those known by their NAI (RFC 2794, RFC 5944 §3.8.3.2)."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import chain, islice

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.association import Associations
from testbed.mobileip.core.disposition import Deny
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.links import UNSPECIFIED
from testbed.mobileip.core.security import Peer
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.nai import nai_of
from testbed.mobileip.wire.registration_request import RegistrationRequest


def _unique(config: HomeAgentConfig, nodes: Associations) -> Iterator[IPv4Address]:
    """The addresses of the pool that can be assigned, in order, each once."""
    found: set[IPv4Address] = set()
    for each in chain.from_iterable(config.pool):
        if each not in found and each not in nodes and config.serves(each):
            found.add(each)
            yield each


class HomeAddresses:
    """Who has which home address; contains all that mobile nodes have or may get.

    A mobile node keeps what it was assigned, also without a binding, until the pool has no other for somebody
    else. At first it gets the address of its rank among those known by their NAI, if that is free.
    """

    def __init__(self, config: HomeAgentConfig, nodes: Associations, bound: Container[IPv4Address]) -> None:
        """`bound` are the home addresses that have bindings now."""
        self._nodes = nodes
        self._bound = bound
        nais = [peer for peer in nodes if isinstance(peer, str)]
        self._pool = tuple(islice(_unique(config, nodes), len(nais)))  # as many as can ever be needed
        self._addresses = frozenset(self._pool)
        self._preferred = dict(zip(nais, self._pool, strict=False))
        known = [peer for peer in nodes if not isinstance(peer, str)]
        self._all = self._addresses.union(known)
        self._supported = frozenset(each for each in self._all if config.serves(each))
        self._by_nai: dict[str, IPv4Address] = {}  # the longest unused first
        self._by_address: dict[IPv4Address, str] = {}

    def __contains__(self, address: object) -> bool:
        return address in self._all

    def supports(self, home_address: IPv4Address) -> bool:
        """Whether a mobile node that is known here may have this home address."""
        return home_address in self._supported

    def serves(self, node: Peer) -> bool:
        """Whether this is a mobile node of ours."""
        return node in self._nodes

    def nai(self, home_address: IPv4Address) -> str | None:
        """The NAI of the mobile node that has an assigned address."""
        return self._by_address.get(home_address)

    def owner(self, home_address: IPv4Address) -> Peer:
        """What the mobile node with a home address is known by."""
        return self._by_address.get(home_address, home_address)

    def of(self, node: Peer) -> IPv4Address | None:
        """The home address of a mobile node; None where it has none yet."""
        return self._by_nai.get(node) if isinstance(node, str) else node

    def resolve(
        self, datagram: Datagram, request: RegistrationRequest
    ) -> tuple[Peer, Datagram, RegistrationRequest]:
        """Who asks, and what it asks, with a home address where that was left to us.

        Zero stands for it in all fields where the mobile node would have put it: at home also in the source
        address. It remains zero where no address is left. Raises WireError.
        """
        nai = nai_of(request.extensions)
        if nai is None or nai not in self._nodes:
            return request.home_address, datagram, request
        if request.home_address != UNSPECIFIED:
            return nai, datagram, request
        home_address = self._propose(nai) or UNSPECIFIED
        if request.lifetime == 0 and request.care_of_address == UNSPECIFIED:
            request = replace(request, care_of_address=home_address)
            if datagram.source == UNSPECIFIED and datagram.link_address is not None:
                datagram = replace(datagram, source=home_address)
        return nai, datagram, replace(request, home_address=home_address)

    def _propose(self, nai: str) -> IPv4Address | None:
        """The address that `nai` has or would get."""
        if (known := self._by_nai.get(nai)) is not None:
            return known
        preferred = self._preferred.get(nai)
        if preferred is not None and preferred not in self._by_address:
            return preferred
        if len(self._by_address) < len(self._pool):
            return next(each for each in self._pool if each not in self._by_address)
        return next((each for each in self._by_nai.values() if each not in self._bound), None)

    def check(self, node: Peer, home_address: IPv4Address) -> None:
        """Whether a mobile node may have a home address. Raises Deny."""
        if not isinstance(node, str):
            return
        if home_address == UNSPECIFIED:
            raise Deny(Code.HA_INSUFFICIENT_RESOURCES, "no home address is left in the pool")
        known, owner = self._by_nai.get(node), self._by_address.get(home_address, node)
        taken = owner != node and home_address != self._propose(node)
        if home_address not in self._addresses or taken:
            raise Deny(Code.HA_PROHIBITED, "home address not for this mobile node")
        if known is not None and known != home_address:
            raise Deny(Code.HA_PROHIBITED, f"home address not the one assigned, {known}")

    def assign(self, node: Peer, home_address: IPv4Address) -> str | None:
        """Note that a mobile node has a home address from now on; return the NAI of who had it before."""
        if not isinstance(node, str):
            return None
        before = self._by_address.get(home_address)
        if before is not None:
            del self._by_nai[before]
        self._by_nai[node] = home_address  # the latest
        self._by_address[home_address] = node
        return before if before != node else None

    def restore(self, node: Peer, address: str | None) -> IPv4Address | None:
        """The home address of a mobile node that was remembered; None where it may have none any more."""
        if not isinstance(node, str):
            return node if node in self._nodes else None
        home_address = IPv4Address(address) if address is not None else None
        if node not in self._nodes or home_address not in self._addresses or home_address in self._by_address:
            return None
        self.assign(node, home_address)
        return home_address
