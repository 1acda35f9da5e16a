"""Which part of a topology is drawn where, before any measure: layers from outside to inside, and rows.

The widest network of the outermost domain (the Internet, if there is one) is the root. What leads into the
DMZ or the Intranet stands on one side of it (positive layers), everything else on the other, as in the
figures of RFC 4093: networks on even layers, nodes on odd ones, and the mobile node once at every network it
may attach to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from testbed.topology.model import Domain, Topology

Kind = Literal["network", "node", "mobile"]
DOMAINS: tuple[Domain, ...] = ("internet", "operator", "dmz", "intranet")
INSIDE: frozenset[Domain] = frozenset(("dmz", "intranet"))
_BETWEEN_DOMAINS = 0.6  # rows


@dataclass(eq=False)
class Item:
    """One thing to draw; `rows` is the band (first, last + 1) that it and what hangs on it may use."""

    kind: Kind
    name: str
    layer: int
    domains: tuple[Domain, ...]
    network: str = ""  # of a mobile node's place
    children: list[Item] = field(default_factory=list)
    rows: tuple[float, float] = (0.0, 1.0)

    @property
    def border(self) -> bool:
        """Whether it stands between domains."""
        return len(self.domains) > 1


@dataclass(frozen=True)
class Tree:
    """The items of a topology with their layers and rows."""

    root: Item
    items: tuple[Item, ...]
    hubs: dict[str, str]
    """Network → the node that is nothing but its hub, which is drawn inside it."""

    def find(self, kind: Kind, name: str) -> Item:
        """One item."""
        return next(item for item in self.items if item.kind == kind and item.name == name)


def arrange(topology: Topology) -> Tree:
    """Give everything its layer and its rows."""
    builder = _Builder(topology)
    builder.grow()
    left, right = builder.sides()
    height = max(_stack(left), _stack(right))
    own = [item for item in left if item in builder.root.children and not item.border]
    if len(own) == len(left):  # else the root is short and stands at the top
        _shift(left, (height - _extent(left)) / 2)
        _shift(right, (height - _extent(right)) / 2)
    own = own or right or left
    builder.root.rows = (
        min((i.rows[0] for i in own), default=0.0),
        max((i.rows[1] for i in own), default=max(height, 1.0)),
    )
    return Tree(builder.root, tuple(builder.items), builder.hubs)


class _Builder:
    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.items: list[Item] = []
        self.placed: set[tuple[Kind, str]] = set()
        self.extra: list[Item] = []  # roots besides the root
        self.hubs = {
            net: one.hub
            for net, one in topology.networks.items()
            if one.hub and topology.nodes[one.hub].networks == (net,)
        }
        present = [net.domain for net in topology.networks.values()]
        outermost, self.innermost = min(present, key=DOMAINS.index), max(present, key=DOMAINS.index)
        names = [name for name, net in topology.networks.items() if net.domain == outermost]
        self.has_inside = self.innermost in INSIDE
        self.root = self.add("network", max(names, key=lambda name: len(topology.linked(name))), 0)

    def add(self, kind: Kind, name: str, layer: int, network: str = "") -> Item:
        networks = [name] if kind == "network" else [network] if network else self.topology.nodes[name].links
        domains = tuple(dict.fromkeys(self.topology.networks[net].domain for net in networks))
        item = Item(kind, name, layer, domains, network)
        self.items.append(item)
        if kind != "mobile":
            self.placed.add((kind, name))
        return item

    def grow(self) -> None:
        """Place everything, nearest to the root first, then what is not connected to it."""
        queue = deque([self.root])
        while True:
            while queue:
                item = queue.popleft()
                queue.extend(self.around_network(item) if item.kind == "network" else self.around_node(item))
            rest = [name for name in self.topology.networks if ("network", name) not in self.placed]
            if not rest:
                return
            inside = self.topology.networks[rest[0]].domain in INSIDE
            queue.append(self.add("network", rest[0], 2 if inside else 0))
            self.extra.append(queue[0])

    def around_network(self, item: Item) -> Iterable[Item]:
        for name in self.topology.linked(item.name):
            if ("node", name) in self.placed or self.hubs.get(item.name) == name:
                continue
            item.children.append(self.add("node", name, item.layer + self.side(item, name)))
        for name, node in self.topology.nodes.items():
            if item.name in node.attaches:
                side = 1 if item.layer > 0 else -1
                item.children.append(self.add("mobile", name, item.layer + side, item.name))
        return [child for child in item.children if child.kind == "node"]

    def side(self, item: Item, node: str) -> int:
        if item.layer:
            return 1 if item.layer > 0 else -1
        if item is not self.root:
            return -1
        outermost = self.root.domains[0]
        if outermost == self.innermost:
            return 1 if outermost in INSIDE else -1
        domains = {self.topology.networks[net].domain for net in self.topology.nodes[node].links} - {
            outermost
        }
        return 1 if (domains & INSIDE if self.has_inside else domains) else -1

    def around_node(self, item: Item) -> Iterable[Item]:
        found = []
        for name in self.topology.nodes[item.name].links:
            if ("network", name) in self.placed:
                continue
            # A network outside that hangs on a gateway (RFC 4093 Figure 7) belongs on the outer side.
            out = item.layer == 1 and self.has_inside and self.topology.networks[name].domain not in INSIDE
            child = self.add("network", name, item.layer + (1 if item.layer > 0 and not out else -1))
            (self.extra if out else item.children).append(child)
            found.append(child)
        return found

    def sides(self) -> tuple[list[Item], list[Item]]:
        """What stands left and right of the root, domain by domain."""
        for item in self.items:
            item.children.sort(key=_domain_order)
        tops = [*sorted(self.root.children, key=_domain_order), *self.extra]
        left = [item for item in tops if item.layer < 0 or (item.layer == 0 and item is not self.root)]
        return left, [item for item in tops if item.layer > 0]


def _domain_order(item: Item) -> int:
    return max(DOMAINS.index(domain) for domain in item.domains)


def _band(item: Item, start: float) -> float:
    """Give an item and all on it their rows from `start` on; return where the next begins."""
    end = start
    for before, child in zip([None, *item.children], item.children, strict=False):
        if before is not None and _domain_order(before) != _domain_order(child):
            end += _BETWEEN_DOMAINS
        end = _band(child, end)
    item.rows = (start, max(end, start + 1))
    if end < start + 1:
        _shift(item.children, (start + 1 - end) / 2)
    return item.rows[1]


def _stack(items: list[Item]) -> float:
    """Stack trees on each other; return the rows they take."""
    end = 0.0
    for before, item in zip([None, *items], items, strict=False):
        if before is not None and (_domain_order(before) != _domain_order(item) or item.layer == 0):
            end += _BETWEEN_DOMAINS
        end = _band(item, end)
    return end


def _extent(items: list[Item]) -> float:
    return max((item.rows[1] for item in items), default=0.0)


def _shift(items: Iterable[Item], by: float) -> None:
    for item in items:
        item.rows = (item.rows[0] + by, item.rows[1] + by)
        _shift(item.children, by)
