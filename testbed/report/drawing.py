"""The measures of a drawing: boxes, lines and the frames of domains, for wide and for narrow pages.

On a wide page the layers of `tree` stand side by side, on a narrow one they are stacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from testbed.document.values import format_duration
from testbed.report.tree import DOMAINS, Item, arrange
from testbed.report.words import clamp, role_words, wrap
from testbed.topology.cast import Cast
from testbed.topology.model import Domain, Topology
from testbed.topology.roles import Role

Shape = Literal["wide", "narrow"]

TITLES: dict[Domain, str] = {
    "internet": "Internet",
    "operator": "Operator network",
    "dmz": "DMZ",
    "intranet": "Intranet (VPN domain)",
}
_MARGIN = 6.0
_TITLE = 20.0  # room for the title of a domain
_INSET = 12.0  # between a domain's frame and what is in it


@dataclass(frozen=True)
class Measures:
    """Sizes in CSS pixels; letters are reckoned rather wide, as nobody knows the reader's fonts."""

    bold: float  # the width of a letter
    plain: float
    line: float
    pad: float
    gap: float  # between layers
    row: float  # from row to row
    narrowest: float
    wrap: int  # letters of the small text in a line


MEASURES: dict[Shape, Measures] = {
    "wide": Measures(bold=7.1, plain=5.9, line=13, pad=10, gap=52, row=66, narrowest=52, wrap=17),
    "narrow": Measures(bold=6.3, plain=5.2, line=11.5, pad=5, gap=30, row=77, narrowest=40, wrap=13),
}


@dataclass(frozen=True)
class Box:
    """A network, a node, or a mobile node at a network; x and y are its upper left corner."""

    item: Item
    lines: tuple[str, ...]
    bold: int  # how many of the lines are its name
    x: float
    y: float
    w: float
    h: float
    wireless: bool = False
    current: bool = False
    badges: tuple[str, ...] = ()

    @property
    def cx(self) -> float:
        """The middle."""
        return self.x + self.w / 2

    @property
    def cy(self) -> float:
        """The middle."""
        return self.y + self.h / 2


@dataclass(frozen=True)
class Line:
    """A link (or possible attachment) as an SVG path, with the host part of the address at the node's end."""

    path: str
    label: str = ""
    label_x: float = 0.0
    label_y: float = 0.0
    possible: bool = False
    current: bool = False


@dataclass(frozen=True)
class Region:
    """The frame of a domain."""

    domain: Domain
    title: str
    x: float
    y: float
    w: float
    h: float
    title_y: float


@dataclass(frozen=True)
class Drawing:
    """Everything with its place, in the area from (x, y) on."""

    shape: Shape
    x: float
    y: float
    width: float
    height: float
    regions: tuple[Region, ...]
    lines: tuple[Line, ...]
    boxes: tuple[Box, ...]


def draw(
    topology: Topology,
    shape: Shape,
    *,
    attached: str | None = None,
    path: Mapping[str, Sequence[str]] | None = None,
    roles: Mapping[str, Role] | None = None,
) -> Drawing:
    """Draw a topology: the network attached to now, and marks at the networks of the mobile node's path.

    `roles` are the manifests of its roles; without, the built-in ones are known.
    """
    return _Draughtsman(Cast.of(topology, roles), shape, attached, path or {}).draw()


class _Draughtsman:
    def __init__(
        self, cast: Cast, shape: Shape, attached: str | None, path: Mapping[str, Sequence[str]]
    ) -> None:
        self.cast = cast
        self.topology = cast.topology
        self.shape = shape
        self.wide = shape == "wide"
        self.attached = attached
        self.path = path
        self.measures = MEASURES[shape]
        self.tree = arrange(self.topology)
        self.boxes: dict[Item, Box] = {}

    def draw(self) -> Drawing:
        self.place()
        regions = self.aligned(self.regions())
        everything: list[Region | Box] = [*regions, *self.boxes.values()]
        x = min(one.x for one in everything) - _MARGIN
        y = min(one.y for one in everything) - _MARGIN
        return Drawing(
            self.shape,
            x,
            y,
            max(one.x + one.w for one in everything) + _MARGIN - x,
            max(one.y + one.h for one in everything) + _MARGIN - y,
            tuple(regions),
            tuple(self.lines()),
            tuple(self.boxes.values()),
        )

    # What is written in a box.

    def text(self, item: Item) -> tuple[str, ...]:
        if item.kind == "mobile":
            at_home = self.cast.home_link(item.name) == item.network
            return (item.name, "at home") if at_home else (item.name,)
        if item.kind == "node":
            node = self.topology.nodes[item.name]
            return (*self.name(item.name), *wrap(role_words(node.roles, self.cast.roles), self.measures.wrap))
        network = self.topology.networks[item.name]
        subnet = str(network.subnet)
        room = (item.rows[1] - item.rows[0]) * self.measures.row - 12
        lines = [subnet]
        if not self.wide and len(subnet) * self.measures.plain > room:
            host = subnet.rindex(".") + 1
            lines = [subnet[:host], subnet[host:]]
        hub = self.tree.hubs.get(item.name)
        about = [hub] if hub else []
        if network.impaired:
            about += [f"{format_duration(network.delay)} delay"] if network.delay else []
            about += [f"{network.loss:g}% loss"] if network.loss else []
        return (*self.name(item.name), *lines, *([f"({', '.join(about)})"] if about else []))

    def name(self, name: str) -> list[str]:
        """A name, in two lines where a narrow page has no room for it."""
        if self.wide or len(name) <= 11 or "-" not in name:
            return [name]
        middle = min((i for i, c in enumerate(name) if c == "-"), key=lambda i: abs(i - len(name) / 2))
        return [name[: middle + 1], name[middle + 1 :]]

    def bold_lines(self, item: Item) -> int:
        return len(self.name(item.name))

    def size(self, item: Item) -> tuple[float, float]:
        m, text, bold = self.measures, self.text(item), self.bold_lines(item)
        widths = [len(t) * (m.bold if i < bold else m.plain) for i, t in enumerate(text)]
        w = max(m.narrowest, max(widths) + 2 * m.pad)
        if item.kind == "network" and self.topology.networks[item.name].medium == "wireless":
            w = max(w, widths[0] + 2 * (m.pad + 16))  # the sign for radio stands beside the name
        return w, len(text) * m.line + 1.2 * m.pad

    # Where the boxes stand.

    def place(self) -> None:
        sizes = {item: self.size(item) for item in self.tree.items}
        layers = sorted({item.layer for item in self.tree.items})
        deep = 0 if self.wide else 1
        depth = {n: max(sizes[i][deep] for i in self.tree.items if i.layer == n) for n in layers}
        row = self.measures.row
        if self.wide:
            row = max([row, *(sizes[i][1] + 14 for i in self.tree.items if i.kind != "network")])
        else:
            row = max(row, *(sizes[i][0] + 6 for i in self.tree.items))
        start, u = {}, 0.0
        for before, n in pairwise([layers[0], *layers]):
            # A layer without anything leaves its place free for nobody: only existing ones count.
            u += (depth[before] + self.measures.gap) if n != before else 0.0
            start[n] = u
        for item in self.tree.items:
            middle = start[item.layer] + depth[item.layer] / 2
            self.boxes[item] = self.box(item, sizes[item], middle, depth[item.layer], row)

    def box(self, item: Item, size: tuple[float, float], middle: float, depth: float, row: float) -> Box:
        """Networks are as long as what hangs on them and as deep as their layer; others keep their size."""
        w, h = size
        first, last = item.rows
        along = (last - first) * row - 12
        if item.kind == "network":
            w, h = (depth, max(h, along)) if self.wide else (max(w, along), depth)
        across = (first + last) / 2 * row
        cx, cy = (middle, across) if self.wide else (across, middle)
        return Box(
            item=item,
            lines=self.text(item),
            bold=self.bold_lines(item),
            x=cx - w / 2,
            y=cy - h / 2,
            w=w,
            h=h,
            wireless=item.kind == "network" and self.topology.networks[item.name].medium == "wireless",
            current=item.kind == "mobile" and item.network == self.attached,
            badges=tuple(self.path.get(item.network, ())) if item.kind == "mobile" else (),
        )

    # The frames of the domains.

    def regions(self) -> list[Region]:
        found = []
        for domain, members in self.clusters():
            inside = [self.boxes[item] for item in members]
            x0, y0 = min(b.x for b in inside) - _INSET, min(b.y for b in inside) - _INSET
            x1, y1 = max(b.x + b.w for b in inside) + _INSET, max(b.y + b.h for b in inside) + _INSET
            for gate in (self.boxes[item] for item in self.gates(domain, members)):
                # The node between two domains stands on the frame of the inner one.
                if self.wide:
                    x0, x1 = (min(x0, gate.cx), x1) if gate.cx < x0 else (x0, max(x1, gate.cx))
                else:
                    y0, y1 = (min(y0, gate.cy), y1) if gate.cy < y0 else (y0, max(y1, gate.cy))
            x1 = max(x1, x0 + len(TITLES[domain]) * 7.2 + 2 * _INSET)
            below = not self.wide and members[0].layer > 0
            y0, y1 = (y0, y1 + _TITLE - 4) if below else (y0 - _TITLE + 4, y1)
            title_y = y1 - 8 if below else y0 + 16
            found.append(Region(domain, TITLES[domain], x0, y0, x1 - x0, y1 - y0, title_y))
        return found

    def aligned(self, regions: list[Region]) -> list[Region]:
        """Give the domains one height (narrow: one width) where none stands above (beside) another."""
        spans = sorted((r.x, r.x + r.w) if self.wide else (r.y, r.y + r.h) for r in regions)
        if any(after[0] < before[1] for before, after in pairwise(spans)):
            return regions
        if not self.wide:
            x, right = min(r.x for r in regions), max(r.x + r.w for r in regions)
            return [replace(r, x=x, w=right - x) for r in regions]
        y, bottom = min(r.y for r in regions), max(r.y + r.h for r in regions)
        return [replace(r, y=y, h=bottom - y, title_y=y + r.title_y - r.y) for r in regions]

    def clusters(self) -> list[tuple[Domain, list[Item]]]:
        """The parts of each domain that hang together without crossing another."""
        networks = {item.name: item for item in self.tree.items if item.kind == "network"}
        inner = [item for item in self.tree.items if item.kind == "node" and not item.border]
        group = {name: name for name in networks}

        def top(name: str) -> str:
            while group[name] != name:
                name = group[name]
            return name

        for node in inner:
            first, *others = self.topology.nodes[node.name].links
            for other in others:
                group[top(other)] = top(first)
        found: dict[str, list[Item]] = {}
        for name, item in networks.items():
            found.setdefault(top(name), []).append(item)
        for item in self.tree.items:
            if item.kind == "mobile":
                found[top(item.network)].append(item)
            elif item.kind == "node" and not item.border:
                found[top(next(iter(self.topology.nodes[item.name].links)))].append(item)
        return [(items[0].domains[0], items) for items in found.values()]

    def gates(self, domain: Domain, members: Sequence[Item]) -> list[Item]:
        """The nodes on the frame of a domain, which are all between it and an outer one."""
        names = {item.name for item in members if item.kind == "network"}
        order = DOMAINS.index
        return [
            item
            for item in self.tree.items
            if item.kind == "node"
            and item.border
            and names & set(self.topology.nodes[item.name].links)
            and any(order(other) < order(domain) for other in item.domains)
        ]

    # Links.

    def lines(self) -> list[Line]:
        found = []
        for item, box in self.boxes.items():
            if item.kind == "mobile":
                net = self.boxes[self.tree.find("network", item.network)]
                found.append(self.line(box, net, "", possible=not box.current, current=box.current))
            elif item.kind == "node":
                for name, address in self.topology.nodes[item.name].links.items():
                    net = self.boxes[self.tree.find("network", name)]
                    shared = self.beside(item, net.item) > 1
                    found.append(self.line(box, net, f".{address.packed[3]}", shared=shared))
        return sorted(found, key=lambda line: line.current)

    def beside(self, node: Item, network: Item) -> int:
        """How many links leave a node on the side where a network is."""
        layers = [self.tree.find("network", name).layer for name in self.topology.nodes[node.name].links]
        return sum((layer > node.layer) == (network.layer > node.layer) for layer in layers)

    def line(
        self,
        node: Box,
        net: Box,
        label: str,
        *,
        shared: bool = False,
        possible: bool = False,
        current: bool = False,
    ) -> Line:
        """From a node's side to the nearest place of a network's: straight, with one bend, or in a curve."""
        ahead = 1 if net.item.layer > node.item.layer else -1
        far = abs(net.item.layer - node.item.layer) > 1
        if self.wide:
            u1, v1 = node.cx + ahead * node.w / 2, node.cy
            u2, v2 = net.cx - ahead * net.w / 2, clamp(v1, net.y + 10, net.y + net.h - 10)
        else:
            u1, v1 = node.cy + ahead * node.h / 2, node.cx
            u2, v2 = net.cy - ahead * net.h / 2, clamp(v1, net.x + 10, net.x + net.w - 10)
        middle = u2 - ahead * self.measures.gap / 2
        if far:
            points = [(u1, v1), (u1 + ahead * 40, v1), (u2 - ahead * 40, v2), (u2, v2)]
            commands = "MC  "
        elif abs(v1 - v2) < 0.5:
            points, commands = [(u1, v1), (u2, v2)], "ML"
        else:
            points, commands = [(u1, v1), (middle, v1), (middle, v2), (u2, v2)], "MLLL"
        places = [(u, v) if self.wide else (v, u) for u, v in points]
        path = " ".join(f"{c}{x:.1f},{y:.1f}".strip() for c, (x, y) in zip(commands, places, strict=True))
        if shared and len(points) == 4:  # several links leave this side together: label them at the other end
            u1, v1, ahead = u2, v2, -ahead
        lx, ly = (u1 + ahead * 13, v1 - 4) if self.wide else (v1 + 3, u1 + (11 if ahead > 0 else -5))
        return Line(path, label, lx, ly, possible, current)
