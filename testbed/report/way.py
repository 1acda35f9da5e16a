"""The ways of data and of registration requests from a mobile node: their headers, and the nodes on them.

It follows from the topology alone: the order of the stack, the domain of the network where the mobile node
is, and whose care-of address it has there. So it shows what is tried; what comes of it packets say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from testbed.agreed import DUAL
from testbed.claim.action import OfMobileNode
from testbed.claim.claims import Experiment
from testbed.claim.steps.carry import Carry
from testbed.claim.steps.ipsec import Ipsec
from testbed.claim.steps.move import Move
from testbed.claim.steps.register import Register
from testbed.claim.steps.service import Service
from testbed.document.functions import Function, Meaning
from testbed.topology.loaded import LoadedTopology

ESP: Final = "ESP"
DATA: Final = "data"
REQUEST: Final = "request"
REGISTRATIONS: Final = "registrations"
"""What `passes` of a gateway or VPN client says where registrations in clear pass."""
TUNNELS: Final = {"ip-in-ip": "IP-in-IP", "gre": "GRE", "minimal": "Min-Enc", "udp": "MIP-UDP"}
"""What Mobile IP's tunnels have in front of data, by the encapsulation that the mobile node asks for."""
HERE: Final = "@"
"""Behind the mobile node's name, in the place of where it is."""
LEGEND: Final = (
    "Headers are written outermost first: `ESP[IP-in-IP[data]]`. `==>` is protected by ESP, `-->` is not. "
    "`✗` marks the node that drops the packet; `··>` is the rest of the way, which it does not go."
)
SERVES_VISITORS: Final = (
    "{node} forwards nothing of a mobile node that has not registered through it (RFC 4093 §4.2)"
)
PROTECTS: Final = "outside the Intranet {node} sends what {gateway} protects through IPsec or not at all"
CARRIED: Final = (
    "On {network} the drawing holds as long as {node} keeps what it had negotiated and registered before"
)
STOPPED: Final = "the home agent of {node} is stopped"
TRANSLATES: Final = "{node} translates TCP, UDP and ICMP, and drops {header}"
GUARDS: Final = "{node} lets {what} across the border of the Intranet, and nothing else"
_PASSES: Final = {"ipsec": "IPsec", REGISTRATIONS: "IPsec and registrations"}


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of the way on which a packet has the same headers of MIPv4 and IPsec, outermost first."""

    begins: str
    ends: str
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mobile node is, and on what legs its packets travel."""

    node: str
    network: str
    legs: tuple[Leg, ...]
    back: tuple[Leg, ...] = ()
    """The legs of the answers, where they are not the same."""
    request: tuple[Leg, ...] = ()
    """The legs of a registration request; none at home."""
    requests: bool = False
    """Whether registration requests are drawn, not data."""
    stopped: frozenset[tuple[str, str]] = frozenset()
    """Services that do not run: node and name."""
    protects: str = ""
    """The gateway without whose IPsec the node sends nothing from here; empty where it may."""
    carried: bool = False
    """Whether the node was carried here, with what it had negotiated and registered elsewhere."""


@dataclass(frozen=True, slots=True)
class Way:
    """One drawing: the parts of its line, the nodes on it, and why it ends where it does."""

    parts: tuple[str, ...]
    nodes: tuple[str, ...]
    ends: str = ""
    networks: tuple[str, ...] = ()
    """Where the mobile node is; the way is the same from all of them."""
    note: str = ""
    """How long the drawing holds, where it may change by itself."""
    requests: bool = False
    """Whether it is the way of registration requests, not of data."""

    @property
    def shown(self) -> list[str]:
        """The parts, each an arrow and a node, with the networks where the mobile node is."""
        return [part.replace(HERE, f"@{'|'.join(self.networks)}") for part in self.parts]


def ways(loaded: LoadedTopology, experiment: Experiment) -> list[Way]:
    """A drawing for each place where a mobile node is in a run; like ways are one.

    Those of data come first, then those of registration requests, if the run is decided by them.
    """
    found: dict[Way, list[str]] = {}
    requests = any(one.part.of_registrations for _, one in experiment.expectations())
    places = list(_places(loaded, experiment))
    for place in [*places, *(replace(one, requests=True) for one in places if requests)]:
        for legs in filter(None, (place.request,) if place.requests else (place.legs, place.back)):
            found.setdefault(_draw(loaded, place, legs), []).append(place.network)
    return [replace(way, networks=tuple(dict.fromkeys(networks))) for way, networks in found.items()]


def _places(loaded: LoadedTopology, experiment: Experiment) -> Iterator[Place]:
    """Where steps bring mobile nodes, then where the others are: the first begins where its steps say."""
    here: dict[str, Place] = {}
    stopped: set[tuple[str, str]] = set()
    down: set[str] = set()
    for step in experiment.steps:
        networks: Sequence[str] = ()
        node = step.part.who(loaded) if isinstance(step.part, OfMobileNode) else ""
        match step.part:
            case Service() as part:
                change = stopped.add if part.state == "down" else stopped.discard
                change((part.node, part.name))
            case Ipsec() as part:
                (down.add if part.state == "down" else down.discard)(node)
                networks = [here[node].network] if node in here and node not in down else ()
            case Register() as part:
                if node in here:
                    yield _registers(loaded, replace(here[node], stopped=frozenset(stopped)), part.through)
            case Move() as part:
                networks = part.to
            case Carry() as part:
                networks = [part.to]
        for network in networks:
            before, place = here.get(node), _place(loaded, node, network, ipsec=node not in down)
            if isinstance(step.part, Carry) and before:  # what was negotiated and registered there stays
                place = replace(before, network=network, carried=True)
            here[node] = replace(place, stopped=frozenset(stopped))
            yield here[node]
    for node in loaded.mobile_nodes[1:]:
        if node not in here:
            attaches, chosen = loaded.node(node).attaches, str(loaded.options.get("attach"))
            place = _place(loaded, node, chosen if chosen in attaches else attaches[0], ipsec=True)
            yield replace(place, stopped=frozenset(stopped))


def _registers(loaded: LoadedTopology, place: Place, through: str) -> Place:
    """A request that a step sends from where the node is: in clear on a link, or through IPsec."""
    node, home_agent = place.node, loaded.home_agent(place.node) or place.node
    if through == "ipsec":
        gateway = str(loaded.meant(node, Meaning.VPN_GATEWAY))
        chain = _chain([node, gateway, home_agent], [(ESP,)])
        return replace(place, legs=(), back=(), request=chain, protects="")
    agent = _agent(loaded, through)
    chain = _chain([node, *([agent] if agent else []), home_agent])
    return replace(place, network=through, legs=(), back=(), request=chain, protects="", carried=False)


def _agent(loaded: LoadedTopology, network: str) -> str | None:
    """The foreign agent on a link."""
    agents = loaded.with_role(Function.FOREIGN_AGENT)
    return next((one for one in agents if network in loaded.visited(one)), None)


def _place(loaded: LoadedTopology, node: str, network: str, *, ipsec: bool) -> Place:
    agent, home_agent = _agent(loaded, network), loaded.home_agent(node) or node
    gateway = str(loaded.meant(node, Meaning.VPN_GATEWAY) or "")
    correspondent = loaded.correspondent(node) or home_agent
    at_home = loaded.home_link(node) == network
    inside = loaded.topology.networks[network].domain == "intranet"
    stack = loaded.options.get("stack") if gateway and ipsec else None
    mip = TUNNELS[_encapsulation(loaded, node, network)]
    if at_home:
        return Place(node, network, _chain([node, correspondent]))
    if stack == "mip-in-ipsec" and not inside:
        stops = [node, gateway, home_agent, correspondent]
        request = _chain(stops[:-1], [(ESP,)])
        return Place(node, network, _chain(stops, [(ESP, mip), (mip,)]), request=request)
    if stack == DUAL and not inside:
        return _through_both(loaded, node, network, [gateway, home_agent, correspondent])
    through = [agent] if agent else []
    request = _chain([node, *through, home_agent])
    guarded = bool(gateway) and not ipsec and not inside and loaded.options.get("stack") != "mip-only"
    if stack != "ipsec-in-mip":
        return Place(
            node,
            network,
            _chain([node, *through, home_agent, correspondent], [*([()] * len(through)), (mip,)]),
            request=request,
            protects=gateway if guarded else "",
        )
    esp = [*([(ESP,)] * len(through)), (mip, ESP), (ESP,)]
    legs = _chain([node, *through, home_agent, gateway, correspondent], esp)
    back: tuple[Leg, ...] = ()
    if "routing" in loaded.options:  # the home agent takes what comes for home addresses (RFC 4093 §2.2)
        adapted = loaded.options["routing"] != "unmodified"
        detour = [gateway, home_agent] if adapted else []
        inner = (ESP,) if adapted else ()
        headers = [(), *([(), (ESP,)] if adapted else []), (mip, *inner), *([inner] * len(through))]
        back = _chain([correspondent, home_agent, *detour, *through, node], headers)
    return Place(node, network, legs, back, request)


def _through_both(loaded: LoadedTopology, node: str, network: str, protected: list[str]) -> Place:
    """Through the home agent outside first, then out of IPsec at the gateway (RFC 5265)."""
    agent, outer = _agent(loaded, network), str(loaded.meant(node, Meaning.OUTER_HOME_AGENT))
    behind = _nat(loaded, network) is not None and loaded.meant(node, Meaning.OUTER_UDP_TUNNEL) != "off"
    tunnel, mip = TUNNELS["udp" if behind else "ip-in-ip"], TUNNELS["ip-in-ip"]
    stops = [node, *([agent] if agent else []), outer, *protected]
    to_agent = [(ESP, mip)] if agent else []
    data = [*to_agent, (tunnel, ESP, mip), (ESP, mip), (mip,)]
    asked = [headers[:-1] for headers in data[:-1]]
    return Place(node, network, _chain(stops, data), request=_chain(stops[:-1], asked))


def _encapsulation(loaded: LoadedTopology, node: str, network: str) -> str:
    """What a mobile node's own tunnel is in: behind a NAT in UDP, where it asks for that (RFC 3519)."""
    asked = loaded.meant(node, Meaning.UDP_TUNNEL) or "off"
    needed = asked == "forced" or _nat(loaded, network) is not None
    if asked != "off" and needed and _agent(loaded, network) is None:
        return "udp"
    return str(loaded.meant(node, Meaning.ENCAPSULATION) or "ip-in-ip")


def _nat(loaded: LoadedTopology, network: str) -> str | None:
    """The NAT that a network is behind."""
    nodes = loaded.topology.nodes
    return next((one for one in nodes if loaded.meant(one, Meaning.PRIVATE) == network), None)


def _chain(stops: Sequence[str], headers: Sequence[tuple[str, ...]] = ()) -> tuple[Leg, ...]:
    """Legs from stop to stop; one that leads to where it began is no leg."""
    padded = [*headers, *([()] * len(stops))]
    return tuple(Leg(a, b, c) for a, b, c in zip(stops, stops[1:], padded, strict=False) if a != b)


def _draw(loaded: LoadedTopology, place: Place, legs: Sequence[Leg]) -> Way:
    def shown(node: str) -> str:
        return node + HERE if node == place.node else node

    first = legs[0].begins
    own = PROTECTS.format(node=first, gateway=place.protects) if _keeps(loaded, place) else ""
    parts, nodes, ends = [f"{'✗ ' if own else ''}{shown(first)}"], [first], own
    for leg in legs:
        joined = _joined(loaded, leg.begins, place)  # by a tunnel of its own with another gateway
        for node, crosses in _passed(loaded, place, leg):
            headers = (ESP, *leg.headers) if joined else leg.headers
            arrow = _arrow(headers, REQUEST if place.requests else DATA)
            reason = _stops(loaded, place, leg, node, crosses=crosses and not joined)
            blocked = "✗ " if reason and not ends else ""
            parts.append(f"{'··>' if ends else arrow} {blocked}{shown(node)}")
            nodes.append(node)
            ends = ends or reason
            joined = _joined(loaded, node, place) and not joined
    note = CARRIED.format(network=place.network, node=place.node) if place.carried else ""
    return Way(tuple(parts), tuple(dict.fromkeys(nodes)), ends, note=note, requests=place.requests)


def _keeps(loaded: LoadedTopology, place: Place) -> bool:
    """Whether the mobile node itself sends nothing, for want of IPsec."""
    if not place.protects or not place.requests:
        return bool(place.protects)
    to = place.request[0].ends  # a foreign agent on the link, or the home agent, which may be outside as well
    links = [place.network, *(loaded.meant(to, one) for one in (Meaning.AGENT_LINK, Meaning.HOME_NETWORK))]
    address = next((found for one in links if (found := loaded.node(to).links.get(one))), None)
    protected = address is not None and address in loaded.meant(place.protects, Meaning.PROTECTS)
    return protected and loaded.meant(place.node, Meaning.PASSES) != REGISTRATIONS


def _joined(loaded: LoadedTopology, node: str, place: Place) -> bool:
    """Whether a gateway has a tunnel to another that stands."""
    peers = {one: loaded.meant(one, Meaning.PEER) for one in loaded.with_role(Function.VPN_GATEWAY)}
    pairs = [(one, other) for one, other in peers.items() if other and node in (one, other)]
    return any((one, "charon") not in place.stopped for one, _ in pairs)


def _stops(loaded: LoadedTopology, place: Place, leg: Leg, node: str, *, crosses: bool) -> str:
    """Why a node lets packets of a leg go no further; empty where it does not."""
    if node == leg.ends:
        registers = place.requests and node == loaded.home_agent(place.node)
        ends_here = registers or not {*TUNNELS.values()}.isdisjoint(leg.headers[:1])
        stopped = ends_here and (node, Function.HOME_AGENT) in place.stopped
        return STOPPED.format(node=node) if stopped else ""
    if loaded.meant(node, Meaning.PRIVATE) == place.network:
        raw = [one for one in leg.headers[:1] if one in TUNNELS.values() and one != TUNNELS["udp"]]
        ports = loaded.meant(node, Meaning.TRANSLATES) == "ports"
        return TRANSLATES.format(node=node, header=raw[0]) if raw and ports else ""
    if not loaded.acts_as(node, Function.VPN_GATEWAY):
        return SERVES_VISITORS.format(node=node)
    passes = str(loaded.meant(node, Meaning.PASSES) or "ipsec")
    what = None if place.requests and passes == REGISTRATIONS else _PASSES.get(passes)
    return GUARDS.format(node=node, what=what) if crosses and what else ""


def _arrow(headers: Sequence[str], text: str) -> str:
    for header in reversed(headers):
        text = f"{header}[{text}]"
    return f"=={text}==>" if ESP in headers else f"--{text}-->"


def _passed(loaded: LoadedTopology, place: Place, leg: Leg) -> Iterator[tuple[str, bool]]:
    """The nodes of a leg that are more than routers, with whether the border of the Intranet is crossed."""
    starts = [place.network] if leg.begins == place.node else _links(loaded, leg.begins)
    goals = [place.network] if leg.ends == place.node else list(loaded.node(leg.ends).links)
    for node, before, after in _hops(loaded, starts, leg.ends, goals):
        outside = loaded.meant(node, Meaning.OUTSIDE)
        if node == leg.ends:
            yield node, False
        elif loaded.acts_as(node, Function.VPN_GATEWAY) and (before == outside) != (after == outside):
            yield node, True
        elif leg.begins == place.node and node in (
            _agent(loaded, place.network),
            _nat(loaded, place.network),
        ):
            yield node, False


def _links(loaded: LoadedTopology, node: str) -> list[str]:
    """The links of a node; a gateway sends what it has taken out of ESP of mobile nodes to those inside."""
    links = loaded.node(node).links
    if not loaded.acts_as(node, Function.VPN_GATEWAY) or loaded.meant(node, Meaning.PEER):
        return list(links)
    return [one for one in links if one != loaded.meant(node, Meaning.OUTSIDE)]


def _hops(
    loaded: LoadedTopology, starts: Sequence[str], target: str, goals: Sequence[str]
) -> list[tuple[str, str, str]]:
    """The nodes of the shortest way over networks, each with the networks before and behind it."""
    queue: deque[tuple[str, list[tuple[str, str, str]]]] = deque((one, []) for one in starts)
    seen = set(starts)
    while queue:
        network, hops = queue.popleft()
        if network in goals:
            return [*hops, (target, network, "")]
        for node in loaded.topology.linked(network):
            for link in loaded.node(node).links if loaded.forwards(node) else ():
                if link not in seen:
                    seen.add(link)
                    queue.append((link, [*hops, (node, network, link)]))
    return [(target, "", "")]
