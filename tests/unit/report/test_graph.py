"""Drawings of topologies: everything is in them, nothing lies on anything else."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from functools import cache, partial
from io import BytesIO
from itertools import combinations, pairwise, product
from pathlib import Path

import pytest
from PIL import Image
from pypdfium2 import PdfDocument

from testbed.document.read import load_document, validate_model
from testbed.report.drawing import Box, Drawing, Shape, draw
from testbed.report.graph import GraphFormat, graph
from testbed.report.tree import arrange
from testbed.report.words import role_words, wrap
from testbed.topology.load import builtin_topologies, load_topology
from testbed.topology.model import Topology
from testbed.topology.roles import builtin_roles

ODD = """\
name: odd
title: A firewall, a "DMZ", an operator and a WLAN outside
networks:
  internet: {subnet: 203.0.113.0/24, domain: internet, hub: core, delay: 10ms, loss: 1%}
  hotspot: {subnet: 198.51.100.0/26, domain: internet, medium: wireless}
  wlan: {subnet: 198.51.100.64/26, domain: internet, medium: wireless}
  ophome: {subnet: 192.0.2.0/24, domain: operator}
  dmz: {subnet: 203.0.114.0/24, domain: dmz}
  backbone: {subnet: 10.0.0.0/24, domain: intranet}
  home: {subnet: 10.0.1.0/24, domain: intranet}
  island: {subnet: 10.0.9.0/24, domain: intranet}
nodes:
  core: {roles: [router, hub], links: {internet: 203.0.113.1}}
  fa-hotspot: {roles: [router, foreign-agent], links: {internet: 203.0.113.10, hotspot: 198.51.100.1}}
  opha: {roles: [router, home-agent], links: {internet: 203.0.113.40, ophome: 192.0.2.1}}
  fw: {roles: [router], links: {internet: 203.0.113.3, dmz: 203.0.114.1}}
  gw: {roles: [router, vpn-gateway], links: {internet: 203.0.113.2, backbone: 10.0.0.1, wlan: 198.51.100.65}}
  ha: {roles: [router, home-agent], links: {dmz: 203.0.114.2, backbone: 10.0.0.2}}
  r1: {roles: [router], links: {backbone: 10.0.0.3, home: 10.0.1.1}}
  cn: {roles: [correspondent], links: {home: 10.0.1.10}}
  mn: {roles: [mobile-node], attaches: [hotspot, wlan, ophome, home]}
  mn-two: {roles: [mobile-node], attaches: [hotspot, home]}
"""
INSIDE_ONLY = """\
name: inside
title: Nothing but an Intranet
networks:
  home: {subnet: 10.0.1.0/24, domain: intranet}
nodes:
  ha: {roles: [home-agent], links: {home: 10.0.1.2}}
"""
SHAPES: tuple[Shape, ...] = ("wide", "narrow")


def topologies(tmp_path: Path) -> list[Topology]:
    files = []
    for name, text in (("odd", ODD), ("inside", INSIDE_ONLY)):
        file = tmp_path / f"{name}.yaml"
        file.write_text(text)
        files.append(file)
    read = [load_document(file, str(file)) for file in files]
    return [*builtin(), *(validate_model(Topology, one.data, one.marks) for one in read)]


@cache
def builtin() -> list[Topology]:
    return [load_topology(name).topology for name in builtin_topologies()]


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.w
        and other.x < one.x + one.w
        and one.y < other.y + other.h
        and other.y < one.y + one.h
    )


def segments(path: str) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    points = [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)]
    return list(pairwise(points))


def crosses(segment: tuple[tuple[float, float], tuple[float, float]], box: Box) -> bool:
    """Whether an upright or level segment runs through the inside of a box."""
    (x1, y1), (x2, y2) = segment
    return (
        max(x1, x2) > box.x + 1
        and min(x1, x2) < box.x + box.w - 1
        and max(y1, y2) > box.y + 1
        and min(y1, y2) < box.y + box.h - 1
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_lies_on_anything_else(tmp_path: Path, shape: Shape) -> None:
    for topology in topologies(tmp_path):
        drawing = draw(topology, shape)
        for one, other in combinations(drawing.boxes, 2):
            assert not overlap(one, other), (topology.name, one.item.name, other.item.name)
        for line, box in product(drawing.lines, drawing.boxes):
            if "C" not in line.path:
                assert not any(crosses(segment, box) for segment in segments(line.path)), (topology.name, box)
        for box in drawing.boxes:
            assert drawing.x <= box.x and box.x + box.w <= drawing.x + drawing.width
            assert drawing.y <= box.y and box.y + box.h <= drawing.y + drawing.height


@pytest.mark.parametrize("shape", SHAPES)
def test_everything_is_drawn_once(tmp_path: Path, shape: Shape) -> None:
    for topology in topologies(tmp_path):
        drawing = draw(topology, shape)
        names = [box.item.name for box in drawing.boxes if box.item.kind == "network"]
        assert sorted(names) == sorted(topology.networks)
        hubs = set(arrange(topology).hubs.values())
        names = [box.item.name for box in drawing.boxes if box.item.kind == "node"]
        assert sorted(names) == sorted(
            n for n, node in topology.nodes.items() if node.links and n not in hubs
        )
        places = [(b.item.name, b.item.network) for b in drawing.boxes if b.item.kind == "mobile"]
        assert sorted(places) == sorted(
            (n, net) for n, node in topology.nodes.items() for net in node.attaches
        )
        links = sum(len(node.links) + len(node.attaches) for node in topology.nodes.values())
        assert len(drawing.lines) == links - len(hubs)


@pytest.mark.parametrize("shape", SHAPES)
def test_text_fits_its_box(tmp_path: Path, shape: Shape) -> None:
    for topology in topologies(tmp_path):
        for box in draw(topology, shape).boxes:
            letter = 7.1 if shape == "wide" else 6.3
            assert max(map(len, box.lines[: box.bold])) * letter <= box.w + 1


def by_name(drawing: Drawing) -> dict[str, Box]:
    return {box.item.name: box for box in drawing.boxes if box.item.kind != "mobile"}


def test_outside_is_left_and_the_gateway_on_the_border() -> None:
    topology = load_topology("scenario-2.1").topology
    drawing = draw(topology, "wide", attached="hotel", path={"hotel": ["1", "3"], "airport": ["2"]})
    at = by_name(drawing)
    order = ["hotel", "hotel-router", "internet", "gw", "backbone", "r1", "home", "ha"]
    assert [at[name].cx for name in order] == sorted(at[name].cx for name in order)
    intranet = next(r for r in drawing.regions if r.domain == "intranet")
    assert intranet.x == pytest.approx(at["gw"].cx)
    current = [box.item.network for box in drawing.boxes if box.current]
    assert current == ["hotel"]
    assert {b.item.network: b.badges for b in drawing.boxes if b.badges} == {
        "hotel": ("1", "3"),
        "airport": ("2",),
    }
    stacked = by_name(draw(topology, "narrow"))
    assert [stacked[name].cy for name in order] == sorted(stacked[name].cy for name in order)


def test_a_network_outside_on_the_gateway_stays_outside(tmp_path: Path) -> None:
    odd = next(t for t in topologies(tmp_path) if t.name == "odd")
    at = by_name(draw(odd, "wide"))
    assert at["wlan"].cx < at["gw"].cx < at["backbone"].cx
    assert at["ophome"].cx < at["opha"].cx < at["internet"].cx
    assert at["fw"].cx < at["dmz"].cx < at["ha"].cx


def test_svg_stands_alone(tmp_path: Path) -> None:
    for topology in topologies(tmp_path):
        text = graph(topology, GraphFormat.svg, attached="hotel").decode()
        root = ET.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("viewBox", "").split()[2:] == [root.get("width"), root.get("height")]
        for element in root.iter():  # every renderer sees the colours, those without CSS too
            if element.tag.endswith(("}text", "}rect", "}path")):
                assert element.get("fill", "").startswith(("#", "none")), element.attrib
        assert "prefers-color-scheme:dark" in text
        assert not re.search(r"href|url\(|@import|<script", text)
        words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
        assert {name for name in topology.networks if len(name) <= 11} <= words


@pytest.mark.parametrize("name", builtin_topologies())
def test_pictures_show_everything(name: str) -> None:
    """The page holds every name as text."""
    topology = load_topology(name).topology
    network = next(iter(topology.networks))
    page = PdfDocument(graph(topology, GraphFormat.pdf, attached=network))[0]
    drawing = draw(topology, "wide", attached=network)
    assert page.get_size() == pytest.approx((drawing.width * 0.75, drawing.height * 0.75), abs=1)
    text = page.get_textpage().get_text_bounded()
    assert all(part in text for part in (*topology.networks, *topology.nodes))


@pytest.mark.parametrize("name", ["plain-mip", "solutions/dual-ha"])
def test_an_image_has_the_colours_of_the_drawing(name: str) -> None:
    """It is the page that pictures of all topologies are, as pixels."""
    topology = load_topology(name).topology
    image = Image.open(BytesIO(graph(topology, GraphFormat.png))).convert("RGB")
    assert image.width > draw(topology, "wide").width
    colours = {colour for _, colour in image.getcolors(1 << 24) or ()}
    grounds = {(0xFD, 0xF6, 0xE7), (0xF5, 0xF0, 0xFE), (0xED, 0xF8, 0xF0), (0xEE, 0xF4, 0xFE)}
    assert grounds & colours


def test_mermaid_and_dot_name_everything(tmp_path: Path) -> None:
    for topology in topologies(tmp_path):
        for form in (GraphFormat.mermaid, GraphFormat.dot):
            text = graph(topology, form, attached="hotel").decode()
            for name in [*topology.networks, *topology.nodes]:
                assert name in text
            for node in topology.nodes.values():
                for address in node.links.values():
                    assert f'"{address}"' in text
            assert text.count("{") == text.count("}") or form is GraphFormat.mermaid
    odd = next(t for t in topologies(tmp_path) if t.name == "odd")
    assert 'title: "A firewall, a #quot;DMZ#quot;' in graph(odd, GraphFormat.mermaid).decode()
    assert 'label="A firewall, a \\"DMZ\\",' in graph(odd, GraphFormat.dot).decode()


def test_words() -> None:
    words = partial(role_words, roles=builtin_roles())
    assert words(["router", "hub", "ospf", "vpn-gateway"]) == "VPN gateway, router, OSPF"
    assert words(["other-vendors-box"]) == "other vendors box"
    assert wrap("VPN gateway, router, OSPF", 13) == ["VPN gateway,", "router, OSPF"]
    assert wrap("", 5) == []
