"""Whether a new lab has room on this machine: what it takes of what all labs share, found out beforehand.

Three things end first: the address pool, from which every network has a subnet in the engine's books; the
table of neighbours, which all network namespaces of a kernel share; memory. Every network also has a bridge,
which takes so many nodes. Without room for it a lab comes up half and fails with a message that names none of
them. What a lab takes is estimated from its topology, and rather too low, so that nothing is refused that
would work. The engine's machine is looked at only where this one is it.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, collapse_addresses
from pathlib import Path
from typing import Final

from testbed.engine.api import Engine, Network
from testbed.errors import MachineError, raise_errors
from testbed.lab.addresses import ADDRESSES_FIX, prefix_length, taken_subnets
from testbed.topology.model import Topology

_MIB: Final = 1 << 20
BRIDGE_PORTS: Final = 1023
"""How many nodes a bridge of the kernel takes (`BR_MAX_PORTS`)."""
NODE_MEMORY: Final = 16 * _MIB
"""Bytes that a node takes at least, on the average of a lab, with what the engine keeps for it."""
_MORE_NEIGHBOURS: Final = 1.25
"""What multicast groups, devices of tunnels and neighbours of former places add to those on links."""
_THRESHOLDS: Final = "net.ipv4.neigh.default.gc_thresh3=8192 net.ipv4.neigh.default.gc_thresh2=4096"
NEIGHBOURS_FIX: Final = f"on the engine's host: sysctl -w {_THRESHOLDS}"
MEMORY_FIX: Final = "remove labs that are not needed: testbed status, testbed down"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a lab takes of what labs share."""

    addresses: int
    """Of the engine's pool."""
    neighbours: int
    """Entries of the kernel's table."""
    memory: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much is left of what labs share; None where that is not known."""

    addresses: int
    neighbours: int | None = None
    memory: int | None = None


def needs(topology: Topology) -> Needs:
    """Estimate what a lab of a topology takes."""
    addresses, pairs = 0, 0
    for name, network in topology.networks.items():
        fixed = len(topology.linked(name))
        addresses += 1 << (32 - prefix_length(_members(topology, name)))
        # Across a hub every node speaks to the hub alone.
        pairs += 2 * max(0, fixed - 1) if network.hub else fixed * max(0, fixed - 1)
    pairs += 2 * sum(bool(node.attaches) for node in topology.nodes.values())  # where a mobile node is
    return Needs(addresses, math.ceil(pairs * _MORE_NEIGHBOURS), len(topology.nodes) * NODE_MEMORY)


def _members(topology: Topology, network: str) -> int:
    """How many nodes have an interface in a network, or may have."""
    return sum(network in node.networks for node in topology.nodes.values())


def room(pool: IPv4Network, networks: Iterable[Network]) -> Room:
    """How much is left, beside these networks of the engine, where the engine's machine is this one."""
    return Room(free_addresses(pool, networks), free_neighbours(), free_memory())


def check_room(
    engine: Engine, topology: Topology, pool: IPv4Network, networks: Iterable[Network], labs: int = 1
) -> None:
    """Raise `MachineError` for each limit that so many new labs of a topology would run into.

    `networks` are all that the engine has.
    """
    one, left = needs(topology), room(pool, networks)
    errors = [
        _too_little("address pool", one.addresses, left.addresses, labs, "addresses", ADDRESSES_FIX),
        _too_little(
            "kernel's neighbour table", one.neighbours, left.neighbours, labs, "entries", NEIGHBOURS_FIX
        ),
        _too_little(
            "memory", one.memory // _MIB, left.memory and left.memory // _MIB, labs, "MiB", MEMORY_FIX
        ),
    ]
    if any(errors[1:]) and engine.facts().kernel != platform.release():  # the engine is on another machine
        del errors[1:]
    errors += [_too_many(name, _members(topology, name)) for name in topology.networks]
    raise_errors(error for error in errors if error)


def _too_many(network: str, members: int) -> MachineError | None:
    if members <= BRIDGE_PORTS:
        return None
    return MachineError(
        f"network {network} has {members} nodes, and a bridge of the kernel takes {BRIDGE_PORTS}",
        hint="more mobile nodes than that are a crowd: the role bulk-nodes has thousands in one node",
    )


def _too_little(
    what: str, each: int, free: int | None, labs: int, unit: str, fix: str
) -> MachineError | None:
    if free is None or each * labs <= free:
        return None
    free = max(0, free)
    takes, fits = ("a lab takes", "") if labs == 1 else (f"{labs} labs take", f", enough for {free // each}")
    return MachineError(
        f"the {what} has no room: {takes} some {each * labs} {unit}, and {free} are free{fits}", hint=fix
    )


def free_addresses(pool: IPv4Network, networks: Iterable[Network]) -> int:
    """The addresses of a pool that neither the engine's networks nor this host's routes take."""
    taken = [subnet for subnet in taken_subnets(networks) if subnet.overlaps(pool)]
    used = sum(min(subnet.num_addresses, pool.num_addresses) for subnet in collapse_addresses(taken))
    return max(0, pool.num_addresses - used)


def free_neighbours(proc: Path = Path("/proc")) -> int | None:
    """The entries that are free in this kernel's table of IPv4 neighbours; None where it does not say."""
    try:
        used = int((proc / "net/stat/arp_cache").read_text().splitlines()[1].split()[0], 16)
        return neighbour_limit(proc) - used
    except (OSError, ValueError, IndexError):
        return None


def neighbour_limit(proc: Path = Path("/proc")) -> int:
    """How many entries that table has at most. Raises `OSError`."""
    return int((proc / "sys/net/ipv4/neigh/default/gc_thresh3").read_text())


def free_memory(proc: Path = Path("/proc")) -> int | None:
    """The bytes of memory that this machine could give to new programs; None where it does not say."""
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None
