"""Static routes of every node, worked out from the topology.

Three kinds of nodes differ in what they know:

- a node with one link sends everything to the router on that link;
- a node with several links (and the hub of a network) knows the shortest path to the other networks:
  outside nodes to those outside only, so that no Intranet prefix leaks into a router of the Internet; nodes
  on the Intranet to its networks too. A default route leads toward the hub of the Internet, from inside the
  Intranet toward its border;
- a router that learns the Intranet from its neighbours (the role `ospf`) only gets a default route outside.

Nobody but the NAT itself has a route to what is behind a NAT.

What a node's `routes:` say overrides what is computed here. On a hub-and-spoke network the next hop is
always the hub, reached with `onlink` since the node's own address is a /32 there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network

from testbed.document.functions import Meaning
from testbed.topology.loaded import LoadedTopology

DEFAULT = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True, slots=True)
class Route:
    """One static route; `str()` is what `ip route` takes and shows."""

    prefix: IPv4Network
    via: IPv4Address
    network: str
    """The network, and so the interface, that it leaves by."""
    onlink: bool = False

    def __str__(self) -> str:
        prefix = "default" if self.prefix == DEFAULT else str(self.prefix)
        return f"{prefix} via {self.via} dev {self.network}" + (" onlink" if self.onlink else "")

    @property
    def command(self) -> str:
        """A line for `ip -batch`; does no harm when it is run again."""
        return f"route replace {self}"


@dataclass(frozen=True, slots=True)
class _Hop:
    """The first step from a node: over which network to whom, and how far the goal is after it."""

    network: str
    node: str
    distance: int


def static_routes(loaded: LoadedTopology, name: str) -> tuple[Route, ...]:
    """The static routes of a node, the default route first; mobile nodes have none."""
    return tuple(_node_routes(_Graph(loaded), name))


def _node_routes(graph: _Graph, name: str) -> list[Route]:
    node = graph.nodes[name]
    routes: dict[IPv4Network, Route] = {}
    default = graph.default_hop(name)
    if default:
        routes[DEFAULT] = graph.route(DEFAULT, name, default.network, default.node)
    if graph.knows_networks(name):
        for prefix, hop in graph.destinations(name):
            route = graph.route(prefix, name, hop.network, hop.node)
            if not default or (route.via, route.network) != (routes[DEFAULT].via, routes[DEFAULT].network):
                routes[prefix] = route
    for prefix, via in node.routes.items():
        network = next(link for link in node.links if via in graph.networks[link].subnet)
        onlink = graph.networks[network].hub not in (None, name)
        routes[prefix] = Route(prefix, via, network, onlink)
    return sorted(routes.values(), key=lambda route: (route.prefix != DEFAULT, route.prefix))


class _Graph:
    """Who reaches whom over which network, through nodes that forward."""

    def __init__(self, loaded: LoadedTopology) -> None:
        self._loaded = loaded
        self.nodes = loaded.topology.nodes
        self.networks = loaded.topology.networks
        self._hubs = {*loaded.topology.hubs.values()}
        self._root = next(
            (net.hub for net in self.networks.values() if net.hub and net.domain == "internet"), None
        )
        self._protected = [p for n in self.nodes if (p := loaded.meant(n, Meaning.PROTECTS)) is not None]

    def route(self, prefix: IPv4Network, name: str, network: str, neighbour: str) -> Route:
        """The route of a node to a prefix through a neighbour on a network."""
        onlink = self.networks[network].hub not in (None, name)
        return Route(prefix, self.nodes[neighbour].links[network], network, onlink)

    def knows_networks(self, name: str) -> bool:
        """Whether a node has routes to single networks: it has several ways, and learns none."""
        if self._loaded.learns_routes(name):
            return False
        return len(self.nodes[name].links) > 1 or name in self._hubs

    def default_hop(self, name: str) -> _Hop | None:
        """Where a node sends what it has no other route for; None for mobile nodes and where it ends."""
        node = self.nodes[name]
        if not node.links or name == self._root:
            return None
        if len(node.links) == 1 and name not in self._hubs:
            return self._lone_link_hop(name, next(iter(node.links)))
        outside = any(not self._inside(network) for network in node.links)
        if outside:
            return self._first_hop(name, lambda other: other == self._root, self._outside)
        if self._loaded.learns_routes(name):
            return None
        return self._first_hop(name, self._is_border, self._inside)

    def destinations(self, name: str) -> Iterator[tuple[IPv4Network, _Hop]]:
        """Every prefix a node may know that is not on a link of its own, with the shortest way there."""
        links = self.nodes[name].links
        realms: list[Callable[[str], bool]] = []
        if any(not self._inside(network) for network in links):
            realms.append(self._outside)
        if any(self._inside(network) for network in links):
            realms.append(self._inside)
        for realm in realms:
            for network in filter(realm, self.networks):
                if network not in links:
                    hop = self._first_hop(name, partial(self._is_on, network), realm)
                    if hop:
                        yield self.networks[network].subnet, hop
            for owner, prefix, inside in self._owned():
                if owner != name and inside == (realm == self._inside):
                    hop = self._first_hop(name, owner.__eq__, realm)
                    if hop:
                        yield prefix, hop

    def _owned(self) -> Iterator[tuple[str, IPv4Network, bool]]:
        """Prefixes that a node answers for without a link that has them: owner, prefix, Intranet or not."""
        for name, node in self.nodes.items():
            for kind, prefix in self._loaded.owned_prefixes(name).items():
                lent = kind is Meaning.INNER_POOL
                protected = any(prefix.subnet_of(other) for other in self._protected)
                yield name, prefix, lent or protected or all(map(self._inside, node.links))

    def _lone_link_hop(self, name: str, network: str) -> _Hop | None:
        """The best router on a node's only link.

        The hub where there is one; on the Intranet a router that learns its routes rather than another, and
        the one with most Intranet links; outside the one nearest to the Internet's hub.
        """
        hub = self.networks[network].hub
        if hub:
            return _Hop(network, hub, 0)
        routers = [n for n in self._loaded.topology.linked(network) if n != name and self._transit(n)]
        if not routers:
            return None

        def rank(router: str) -> tuple[bool, int, int]:
            node = self.nodes[router]
            inside = sum(map(self._inside, node.links)) if self._inside(network) else 0
            way = self._first_hop(router, lambda other: other == self._root, self._outside)
            return (not self._loaded.learns_routes(router), -inside, way.distance if way else len(self.nodes))

        return _Hop(network, min(routers, key=rank), 0)

    def _first_hop(self, name: str, goal: Callable[[str], bool], realm: Callable[[str], bool]) -> _Hop | None:
        """The first step of the shortest way to a node that fulfils `goal`, over networks of a realm."""
        seen = {name}
        queue: deque[tuple[str, _Hop]] = deque()
        for network, neighbour in self._neighbours(name, realm):
            if neighbour not in seen:
                seen.add(neighbour)
                queue.append((neighbour, _Hop(network, neighbour, 1)))
        while queue:
            here, first = queue.popleft()
            if goal(here):
                return first
            if not self._transit(here):
                continue
            for network, neighbour in self._neighbours(here, realm):
                if neighbour not in seen and network != self._private(here):
                    seen.add(neighbour)
                    queue.append((neighbour, _Hop(first.network, first.node, first.distance + 1)))
        return None

    def _neighbours(self, name: str, realm: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
        for network in filter(realm, self.nodes[name].links):
            hub = self.networks[network].hub
            for other in self._loaded.topology.linked(network):
                if other != name and hub in (None, name, other):
                    yield network, other

    def _transit(self, name: str) -> bool:
        """Whether packets of others pass through a node: it forwards and has somewhere to forward to."""
        return self._loaded.forwards(name) and (len(self.nodes[name].links) > 1 or name in self._hubs)

    def _is_border(self, name: str) -> bool:
        return self._transit(name) and any(map(self._outside, self.nodes[name].links))

    def _is_on(self, network: str, name: str) -> bool:
        """Whether a node is a way to a network: a host with a link on it is none."""
        return network in self.nodes[name].links and network != self._private(name) and self._transit(name)

    def _private(self, name: str) -> str | None:
        """The network to which a NAT is no way, from anywhere but itself."""
        network: str | None = self._loaded.meant(name, Meaning.PRIVATE)
        return network

    def _inside(self, network: str) -> bool:
        return self.networks[network].domain == "intranet"

    def _outside(self, network: str) -> bool:
        return self.networks[network].domain != "intranet"
