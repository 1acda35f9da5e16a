"""A topology as a picture of its own: SVG, PDF and PNG to look at, Mermaid and DOT for other documents.

PDF and PNG are made by svglib and PDFium, which bring their fonts along: they need no system package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from io import BytesIO
from typing import Final

from testbed.report.drawing import TITLES, draw
from testbed.report.templates import environment
from testbed.report.tree import DOMAINS
from testbed.report.words import role_words
from testbed.topology.model import Domain, Network, Topology
from testbed.topology.roles import Role, builtin_roles

PNG_SCALE: Final = 2.0


class GraphFormat(StrEnum):
    """What a topology can be drawn as."""

    svg = "svg"
    pdf = "pdf"
    png = "png"
    mermaid = "mermaid"
    dot = "dot"


def graph(
    topology: Topology,
    form: GraphFormat,
    *,
    attached: str | None = None,
    roles: Mapping[str, Role] | None = None,
) -> bytes:
    """Draw a topology with its mobile nodes attached to a network (None: nowhere yet); text is UTF-8.

    `roles` are the manifests of its roles; without, the built-in ones are known.
    """
    drawn = _FORMS[form](topology, builtin_roles() if roles is None else roles, attached)
    return drawn if isinstance(drawn, bytes) else drawn.encode()


def svg(
    topology: Topology, roles: Mapping[str, Role], attached: str | None = None, *, dark: bool = True
) -> str:
    """A self-contained SVG for every renderer; with `dark`, browsers show it light or dark."""
    return (
        environment()
        .get_template("alone.svg.j2")
        .render(
            title=f"{topology.name}: {topology.title}",
            drawing=draw(topology, "wide", attached=attached, roles=roles),
            dark=dark,
        )
    )


def pdf(topology: Topology, roles: Mapping[str, Role], attached: str | None = None) -> bytes:
    """One PDF page as large as the drawing."""
    from reportlab.graphics import renderPDF
    from svglib.svglib import svg2rlg

    drawing = svg2rlg(BytesIO(svg(topology, roles, attached, dark=False).encode()))
    made: bytes = renderPDF.drawToString(drawing)
    return made


def png(topology: Topology, roles: Mapping[str, Role], attached: str | None = None) -> bytes:
    """A PNG image with `PNG_SCALE` pixels for each point of the drawing."""
    from pypdfium2 import PdfDocument

    document = PdfDocument(pdf(topology, roles, attached))
    image = BytesIO()
    document[0].render(scale=PNG_SCALE).to_pil().save(image, format="PNG")
    return image.getvalue()


def _id(kind: str, name: str) -> str:
    return f"{kind}_{name.replace('-', '_').replace('.', '_')}"


def _by_domain(topology: Topology) -> Iterator[tuple[Domain, list[str], list[str]]]:
    """Networks and nodes of each domain; a node between two belongs to the inner one, as in the figures."""
    for domain in DOMAINS:
        networks = [name for name, net in topology.networks.items() if net.domain == domain]
        nodes = [
            name
            for name, node in topology.nodes.items()
            if node.links
            and max((topology.networks[net].domain for net in node.links), key=DOMAINS.index) == domain
        ]
        if networks:
            yield domain, networks, nodes


def _about(network: Network) -> str:
    return f"{network.subnet}" + (", wireless" if network.medium == "wireless" else "")


def mermaid(topology: Topology, roles: Mapping[str, Role], attached: str | None = None) -> str:
    """A Mermaid flowchart, as Markdown renderers draw it."""
    lines = ["---", f'title: "{_quoted(topology.title, "#quot;")}"', "---", "flowchart LR"]
    for domain, networks, nodes in _by_domain(topology):
        lines.append(f'  subgraph {domain}["{TITLES[domain]}"]')
        for name in networks:
            lines.append(f'    {_id("net", name)}(["{name}<br/>{_about(topology.networks[name])}"])')
        for name in nodes:
            words = role_words(topology.nodes[name].roles, roles)
            lines.append(f'    {_id("node", name)}["<b>{name}</b><br/>{words}"]')
        lines.append("  end")
    for name, node in topology.nodes.items():
        for net, address in node.links.items():
            lines.append(f'  {_id("net", net)} ---|"{address}"| {_id("node", name)}')
        if node.attaches:
            lines.append(f'  {_id("node", name)}["<b>{name}</b><br/>{role_words(node.roles, roles)}"]')
        for net in node.attaches:
            link = "===" if net == attached else "-.-"
            lines.append(f"  {_id('net', net)} {link} {_id('node', name)}")
    return "\n".join(lines) + "\n"


def dot(topology: Topology, roles: Mapping[str, Role], attached: str | None = None) -> str:
    """A Graphviz graph."""
    lines = [
        f'graph "{topology.name}" {{',
        f'  label="{_quoted(topology.title, chr(92) + chr(34))}"; labelloc=t; rankdir=LR; compound=true;',
        '  fontname="sans-serif"; node [fontname="sans-serif", fontsize=11];',
        '  edge [fontname="sans-serif", fontsize=9];',
    ]
    for domain, networks, nodes in _by_domain(topology):
        lines.append(f'  subgraph cluster_{domain} {{ label="{TITLES[domain]}"; style="rounded,dashed";')
        for name in networks:
            label = f"{name}\\n{_about(topology.networks[name])}"
            lines.append(f'    {_id("net", name)} [shape=ellipse, label="{label}"];')
        for name in nodes:
            label = f"{name}\\n{role_words(topology.nodes[name].roles, roles)}"
            lines.append(f'    {_id("node", name)} [shape=box, label="{label}"];')
        lines.append("  }")
    for name, node in topology.nodes.items():
        if node.attaches:
            label = f"{name}\\n{role_words(node.roles, roles)}"
            lines.append(f'  {_id("node", name)} [shape=box, style=rounded, label="{label}"];')
        for net, address in node.links.items():
            lines.append(f'  {_id("net", net)} -- {_id("node", name)} [label="{address}"];')
        for net in node.attaches:
            style = "bold" if net == attached else "dashed"
            lines.append(f"  {_id('net', net)} -- {_id('node', name)} [style={style}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str, quote: str) -> str:
    return text.replace('"', quote)


_FORMS: dict[GraphFormat, Callable[[Topology, Mapping[str, Role], str | None], str | bytes]] = {
    GraphFormat.svg: svg,
    GraphFormat.pdf: pdf,
    GraphFormat.png: png,
    GraphFormat.mermaid: mermaid,
    GraphFormat.dot: dot,
}
