"""Bytes that headers add to each packet on the mobile node's link: measured in captures, and computed.

The packets measured are those of the probe, whose size is known. Inside ESP and WireGuard they cannot be
recognized, but they are more than half of all packets in the runs with a probe. What a stack with IPsec lets
pass in clear is not its overhead but a finding of its claims.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from testbed.agreed import PROBE_MARKER, WIREGUARD_PORT
from testbed.evidence.folder import RunFolder
from testbed.evidence.verdicts import SIDES
from testbed.packet.decode import Packet, decode
from testbed.packet.layers import Esp, Gre, Ipv4, Layer, Link, Malformed, Minimal, MipUdp, Udp
from testbed.packet.pcap import CaptureError, Frame, read_capture
from testbed.report.evidence import Evidence
from testbed.topology.model import Topology

INNER: Final = 20 + 8 + 20 + len(PROBE_MARKER)
"""A packet of the probe: IP, UDP, number and time stamp, marker (`testbed/node/probe.py`)."""
ENOUGH: Final = 8
"""Packets of one size, distinguished from all others."""

ATTACKS: Final = "5.10"
"""The guideline whose claims are attacks: what is forged there is no overhead."""

Way = Literal["to", "from"]
"""To the mobile node, or from it."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What may be the probe's packets in one capture of the mobile node's link, of one kind."""

    topology: str
    network: str
    stack: str
    attachment: str
    way: Way
    headers: str  # the headers before the probe's own packet: `IP | ESP`
    sizes: Counter[int]  # bytes of the outermost IP packet → packets


@dataclass(frozen=True, slots=True)
class Overhead:
    """What one configuration adds, with everything that was measured of it."""

    stack: str
    attachment: str
    headers: str
    length: int
    places: tuple[Capture, ...]
    computed: int | None  # bytes of the packet by the standards; None: they do not foresee this
    arithmetic: str

    @property
    def added(self) -> int:
        """Measured."""
        return self.length - INNER

    @property
    def agrees(self) -> bool:
        """Whether what was measured is what the standards make of it."""
        return self.computed == self.length

    @property
    def ways(self) -> str:
        """Which packets were measured."""
        ways = {one.way for one in self.places}
        return "both" if len(ways) == 2 else f"{ways.pop()} it"

    @property
    def where(self) -> str:
        """The networks of each topology."""
        found: dict[str, dict[str, None]] = {}
        for one in self.places:
            found.setdefault(one.topology.removeprefix("scenario-"), {})[one.network] = None
        return "; ".join(f"{scenario}: {', '.join(networks)}" for scenario, networks in found.items())


def overheads(evidence: Evidence) -> list[Overhead]:
    """One for each configuration, its headers and size."""
    pools: dict[tuple[str, str, str, str], list[Capture]] = {}
    for one in captures(evidence):
        pools.setdefault((one.topology, one.stack, one.attachment, one.headers), []).append(one)
    found: dict[tuple[str, str, str, int], list[Capture]] = {}
    for (_, stack, attachment, headers), places in pools.items():
        sizes = sum((one.sizes for one in places), Counter[int]())
        length, count = sizes.most_common(1)[0]
        if count >= ENOUGH and count > sizes.total() / 2:
            seen = [one for one in places if one.sizes[length] >= ENOUGH]
            found.setdefault((stack, attachment, headers, length), []).extend(seen or places)
    made = []
    for (stack, attachment, headers, length), places in found.items():
        computed, arithmetic = compute(stack, attachment, headers)
        made.append(Overhead(stack, attachment, headers, length, tuple(places), computed, arithmetic))
    return sorted(made, key=lambda one: (one.stack, one.attachment, one.headers))


def captures(evidence: Evidence) -> Iterator[Capture]:
    """The captures of the mobile node's links in every run with a probe."""
    for claim in evidence.verdicts.claims if evidence.verdicts else ():
        if ATTACKS in claim.guideline:
            continue
        for side, (_, run) in ((at, run) for at in SIDES for run in evidence.runs(claim.id, at)):
            facts = claim.facts(side)
            lab = run.record.lab if run.record else facts.lab if facts else ""
            topology = evidence.topology_of_run(run, lab)
            if topology is None or not any(step.text.startswith("probe") for step in run.steps):
                continue
            stack = _stack(evidence, lab, topology)
            for network, frames in _links(run, topology):
                configured = _configured(topology, stack, network)
                if configured:
                    for (way, headers), sizes in probes(frames).items():
                        if ("ESP" in headers) == ("ipsec" in configured[0]):
                            yield Capture(topology.name, network, *configured, way, headers, sizes)


def _stack(evidence: Evidence, lab: str, topology: Topology) -> str:
    """The stack a lab was brought up with: of several changes the last one counts."""
    about = evidence.lab(lab)
    for one in reversed(about.sets.split() if about else []):
        option, _, value = one.partition("=")
        if option in ("stack", "option.stack", "options.stack"):
            return value
    return str(topology.options["stack"].default) if "stack" in topology.options else ""


def _links(run: RunFolder, topology: Topology) -> Iterator[tuple[str, list[Frame]]]:
    mobile = [name for name, node in topology.nodes.items() if node.attaches]
    for name in mobile:
        for network in topology.nodes[name].attaches:
            file = run.folder / "captures" / f"{name}-{network}.pcap"
            if file.is_file():
                with suppress(CaptureError):  # the run's ladder reports it
                    yield network, read_capture(file)


def _configured(topology: Topology, stack: str, network: str) -> tuple[str, str] | None:
    """The stack and attachment that a topology has on a network: the lab's own where there are several."""
    here = [one for one in topology.configurations if network in one.networks]
    if len({one.stack for one in here}) > 1:
        here = [one for one in here if one.stack == stack]
    return (here[0].stack, here[0].attachment) if len(here) == 1 else None


def probes(frames: Iterable[Frame]) -> dict[tuple[Way, str], Counter[int]]:
    """The sizes of the probe's packets, and of whatever is encrypted, by direction and headers."""
    found: dict[tuple[Way, str], Counter[int]] = {}
    for frame in frames:
        packet = decode(frame.data, frame.linktype, frame.length)
        outer, link = packet.first(Ipv4), packet.first(Link)
        if outer is None or link is None or link.outgoing is None or outer.offset or outer.more:
            continue
        way: Way = "from" if link.outgoing else "to"
        if _is_wireguard(packet, frame.data):
            found.setdefault((way, f"IP | UDP | {_WIREGUARD}"), Counter())[outer.length] += 1
        elif packet.first(Esp) or PROBE_MARKER in frame.data:
            found.setdefault((way, _headers(packet)), Counter())[outer.length] += 1
    return found


def _is_wireguard(packet: Packet, data: bytes) -> bool:
    """Whether it is transport data of WireGuard: message type 4, and three reserved octets of 0."""
    udp = packet.first(Udp)
    if udp is None or WIREGUARD_PORT not in (udp.source, udp.destination):
        return False
    before = sum(layer.size for layer in packet.layers[: packet.layers.index(udp) + 1])
    return data[before : before + 4] == b"\4\0\0\0"


def _headers(packet: Packet) -> str:
    """The headers before the probe's own packet."""
    shown = (Ipv4, Gre, MipUdp, Esp, Udp, Malformed)
    words = [_word(layer) for layer in packet.above_link if isinstance(layer, shown)]
    if packet.first(MipUdp):
        words.remove("UDP")  # the outermost is a part of it
    if packet.first(Esp) is None:
        words = words[: -len(("UDP",) if packet.first(Minimal) else ("IP", "UDP"))]
    return " | ".join(words)


def _word(layer: Layer) -> str:
    names = {Ipv4: "IP", Minimal: "Min-Enc", Gre: "GRE", MipUdp: "MIP-UDP", Esp: "ESP", Udp: "UDP"}
    return names.get(type(layer), "?")


_WIREGUARD: Final = "WireGuard"
_TUNNELS: Final = {
    "IP": (20, "20 outer IP (RFC 2003)"),
    "GRE": (24, "20 outer IP and 4 GRE (RFC 2784)"),
    "Min-Enc": (12, "12 forwarding header (RFC 2004)"),
    "MIP-UDP": (32, "20 outer IP, 8 UDP and 4 tunnel data header (RFC 3519)"),
    "MIP-UDP | GRE": (36, "20 outer IP, 8 UDP, 4 tunnel data header (RFC 3519) and 4 GRE (RFC 2784)"),
    "MIP-UDP | Min-Enc": (
        24,
        "8 UDP, 4 tunnel data header (RFC 3519) and 12 forwarding header (RFC 2004)",
    ),
}


def compute(stack: str, attachment: str, headers: str = "") -> tuple[int | None, str]:
    """Bytes of the probe's packet on the mobile node's link by the standards, and how they come about.

    `headers` shows which encapsulation Mobile IP's tunnel has where it is outside of ESP, and whether ESP is
    in UDP, as through a NAT (RFC 3948).
    """
    natt = 8 * ("UDP" in headers.split(" | "))
    if headers.endswith(_WIREGUARD):
        return wireguard(INNER)
    tunnel, its = _TUNNELS[max((one for one in _TUNNELS if one in headers), key=len, default="IP")]
    match stack, attachment:
        case "mip-only", "foreign-agent":
            return INNER, "nothing: the foreign agent takes the tunnel's header off"
        case "mip-only", "co-located":
            return INNER + tunnel, its
        case "mip-in-ipsec", "co-located":
            length, how = esp(INNER + 20, natt)
            return length, f"{_TUNNELS['IP'][1]}, and around it {how}"
        case "mip-in-ipsec-in-mip", _:  # `fvc` and `cvc` of RFC 5265 §5.2
            length, how = esp(INNER + 20, natt)
            how = f"{_TUNNELS['IP'][1]} inside, and around it {how}"
            if attachment == "foreign-agent":
                return length, how
            return length + tunnel, f"{how}; around it {its}"
        case "ipsec-in-mip", "foreign-agent":
            return esp(INNER, natt)
        case "ipsec-in-mip", "co-located":
            length, how = esp(INNER, natt)
            return length + tunnel, f"{how}; around it {its}"
        case _:
            return None, "nothing gets through"


def esp(inner: int, natt: int = 0) -> tuple[int, str]:
    """A packet of `inner` bytes in ESP tunnel mode with AES-GCM-128 (RFC 4303, RFC 4106), and how."""
    padding = -(inner + 2) % 4
    parts = {"outer IP": 20, "UDP": natt, "ESP": 8, "IV": 8, "padding": padding, "trailer": 2, "ICV": 16}
    how = " + ".join(f"{size} {name}" for name, size in parts.items() if size)
    return inner + sum(parts.values()), how


def wireguard(inner: int) -> tuple[int, str]:
    """A packet of `inner` bytes in transport data of WireGuard (its protocol's §5.4.6), and how."""
    parts = {"outer IP": 20, "UDP": 8, "type, receiver and counter": 16, "padding": -inner % 16, "tag": 16}
    return inner + sum(parts.values()), " + ".join(f"{size} {name}" for name, size in parts.items() if size)
