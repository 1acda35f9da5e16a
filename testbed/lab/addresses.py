"""Throwaway subnets: what the engine's address books get, while nodes use the topology's own addresses.

The engine insists on a subnet per network and puts its own address on the host's end of the bridge, so a
subnet must not overlap another network of the engine or a route of the host.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from threading import Lock
from typing import Final
from zlib import crc32

from testbed.engine.api import Network
from testbed.errors import MachineError, TopologyError, UsageError
from testbed.topology.loaded import LoadedTopology

DEFAULT_POOL: Final = IPv4Network("198.18.0.0/15")
"""Set aside for tests of network devices (RFC 2544): not on the Internet and seldom in a site or VPN."""

POOL_VARIABLE: Final = "TESTBED_POOL"
ADDRESSES_FIX: Final = (
    f"remove labs that are not needed (testbed status, testbed down), or choose another pool: --pool PREFIX "
    f"or {POOL_VARIABLE}=PREFIX"
)
_LONGEST_PREFIX: Final = 29  # room for five endpoints beside the engine's own address
_SHORTEST_PREFIX: Final = 16


def choose_pool(text: str | None = None) -> IPv4Network:
    """Return the pool written in `text`, else in $TESTBED_POOL, else the default. Raises `UsageError`."""
    text = text or os.environ.get(POOL_VARIABLE)
    if not text:
        return DEFAULT_POOL
    try:
        pool = IPv4Network(text)
    except ValueError as error:
        raise UsageError(f"the address pool {text!r} is not an IPv4 prefix: {error}") from error
    if pool.prefixlen > _LONGEST_PREFIX:
        raise UsageError(
            f"the address pool {pool} is too small", hint=f"a network needs a /{_LONGEST_PREFIX} at least"
        )
    return pool


ENDPOINTS: Final = "/etc/testbed/endpoints"
"""The file of a node by which its init knows its interfaces."""


def endpoints_text(addresses: Mapping[str, object]) -> str:
    """What `ENDPOINTS` holds: of each network the throwaway address that its interface carries."""
    return "".join(f"{address} {network}\n" for network, address in addresses.items())


def prefix_length(endpoints: int) -> int:
    """Return the longest prefix with room for so many endpoints, the engine's address and the two ends."""
    return min(_LONGEST_PREFIX, 32 - (endpoints + 2).bit_length())


def host_routes(table: Path = Path("/proc/net/route")) -> list[IPv4Network]:
    """Return the destinations of this host's IPv4 routes, the default route left out."""
    routes: list[IPv4Network] = []
    with suppress(OSError):  # not Linux: the engine then runs in a machine of its own
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            # The kernel prints a word in network byte order as if it were a number of the host's.
            destination, mask = (socket.ntohl(int(fields[column], 16)) for column in (1, 7))
            if mask:
                routes.append(IPv4Network((destination, mask.bit_count())))
    return routes


def host_addresses(table: Path = Path("/proc/net/fib_trie")) -> set[IPv4Address]:
    """Return this host's own IPv4 addresses."""
    with suppress(OSError):
        found = re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", table.read_text(encoding="ascii"))
        return {IPv4Address(address) for address in found}
    return set()


def host_clashes(topology: LoadedTopology, own: Container[IPv4Address]) -> list[TopologyError]:
    """Return an error for each address of a topology that is the host's: it answers for it on bridges."""
    return [
        TopologyError(
            f"nodes.{name}.links.{network}: {address} is an address of this machine itself",
            hint="it answers ARP requests for its addresses on every bridge: choose another prefix",
            source=topology.source("nodes", name, "links", network),
        )
        for name, node in topology.topology.nodes.items()
        for network, address in node.links.items()
        if address in own
    ]


class SubnetPool:
    """Hands out subnets of a pool that overlap nothing known; threads may share it."""

    def __init__(self, pool: IPv4Network, taken: Iterable[IPv4Network], *, lab: str) -> None:
        self._pool = pool
        self._taken = [subnet for subnet in taken if subnet.overlaps(pool)]
        # Labs that come up at the same moment begin to look in different places.
        self._start = crc32(lab.encode())
        self._lock = Lock()

    def take(self, length: int) -> IPv4Network:
        """Return a free subnet of this prefix length, never the same twice. Raises `MachineError`."""
        with self._lock:
            for subnet in self._candidates(length):
                if not any(subnet.overlaps(taken) for taken in self._taken):
                    self._taken.append(subnet)
                    return subnet
        raise MachineError(
            f"no free /{length} is left in the address pool {self._pool}",
            hint=ADDRESSES_FIX,
        )

    def _candidates(self, length: int) -> Iterator[IPv4Network]:
        if length < max(self._pool.prefixlen, _SHORTEST_PREFIX):
            return
        count = 1 << (length - self._pool.prefixlen)
        size = 1 << (32 - length)
        base = int(self._pool.network_address)
        for step in range(count):
            yield IPv4Network((base + (self._start + step) % count * size, length))


def taken_subnets(networks: Iterable[Network]) -> list[IPv4Network]:
    """Return what is in use: subnets of the engine's networks and destinations of the host's routes."""
    return [subnet for network in networks for subnet in network.subnets] + host_routes()


def endpoint_addresses(subnet: IPv4Network, used: Iterable[IPv4Address]) -> Iterator[IPv4Address]:
    """Yield addresses for endpoints; the engine takes the first one of a subnet for itself."""
    avoid = set(used)
    hosts = iter(subnet.hosts())
    next(hosts)
    return (address for address in hosts if address not in avoid)
