"""The words for the addresses of a topology."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from testbed.document.functions import Meaning
from testbed.packet.names import Names
from testbed.topology.cast import Cast
from testbed.topology.loaded import LoadedTopology


def host_addresses(topology: LoadedTopology) -> dict[str, IPv4Address]:
    """Node → the address that its name has in every node and in filters; without the nodes that have none."""
    return {
        name: address
        for name in topology.topology.nodes
        if (address := topology.primary_address(name)) is not None
    }


def topology_names(cast: Cast) -> Names:
    """The names of a topology.

    An address nobody was given, on a link where a single mobile node may attach or in the pool of a
    gateway's inner addresses, can only be that mobile node's.
    """
    topology = cast.topology
    addresses: dict[IPv4Address, str] = {}
    for name, node in topology.nodes.items():
        for address in node.links.values():
            others = addresses.get(address)  # behind another NAT
            addresses[address] = f"{others}/{name}" if others else name
    addresses |= {net.subnet.broadcast_address: f"all@{name}" for name, net in topology.networks.items()}
    places: list[tuple[IPv4Network, str]] = []
    mobile = {name: node for name, node in topology.nodes.items() if node.attaches}
    for name in mobile:
        if (home := cast.home_address(name)) is not None:
            addresses[home] = name
    if len(mobile) == 1:
        name, node = next(iter(mobile.items()))
        links: dict[IPv4Network, list[str]] = {}
        for net in node.attaches:
            links.setdefault(topology.networks[net].subnet, []).append(net)
        places = [(subnet, f"{name}@{'/'.join(nets)}") for subnet, nets in links.items()]
        for other in topology.nodes:
            if (pool := cast.meant(other, Meaning.INNER_POOL)) is not None:
                places.append((pool, f"{name}@vpn"))
    return Names(addresses, places)
