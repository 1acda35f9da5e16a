"""From the bytes of a frame to nested layers: the headers this product is about, and a word for the rest.

    IP mn@hotel→gw | UDP 4500 | ESP c1a5e3f0 #7
    IP ha→mn@hotel | IP cn→mn | ICMP echo reply #3

Never raises for what is on a wire: what cannot be read is a `Malformed` layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address
from struct import Struct
from typing import Any, TypeVar

from testbed.mobileip.wire import PORT as MOBILE_IP_PORT
from testbed.mobileip.wire import agent_advertisement, agent_solicitation, checksum
from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement
from testbed.mobileip.wire.error import WireError
from testbed.packet import dhcp, mobile_ip
from testbed.packet.layers import (
    AgentMessage,
    Arp,
    Echo,
    Esp,
    Gre,
    IcmpError,
    Ike,
    Ipv4,
    Layer,
    Link,
    Malformed,
    Minimal,
    MipUdp,
    Namer,
    Other,
    Tcp,
    Udp,
)
from testbed.packet.pcap import ETHERNET, LINUX_SLL, LINUX_SLL2, RAW_IP, Frame

_IPV4, _ARP, _VLAN = 0x0800, 0x0806, 0x8100
_ICMP, _IPIP, _TCP, _UDP, _GRE, _ESP, _AH, _MINIMAL, _OSPF = 1, 4, 6, 17, 47, 50, 51, 55, 89
_PROTOCOLS = {2: "IGMP", _AH: "AH", _OSPF: "OSPF"}
_OUTGOING = 4  # packet type of the cooked headers
_DEEPEST = 16  # headers; nobody nests more on purpose

_SLL = Struct("!HHH8sH")
_SLL2 = Struct("!HxxIHBB8s")
_IP_HEADER = Struct("!BBHHHBBHII")
_UDP_HEADER = Struct("!HHHH")
_TCP_HEADER = Struct("!HHIIBBHHH")
_ECHO = Struct("!BBHHH")
_ESP_HEADER = Struct("!II")
_IKE_HEADER = Struct("!QQBBBBII")
_ARP_MESSAGE = Struct("!HHBBH6sI6sI")
_GRE_HEADER = Struct("!HH")
_MINIMAL_HEADER = Struct("!BBHI")

L = TypeVar("L", bound=Layer)


@dataclass(frozen=True, slots=True)
class Packet:
    """A decoded frame: its layers, outermost first, and its length on the wire in bytes."""

    layers: tuple[Layer, ...]
    length: int

    def all(self, kind: type[L]) -> tuple[L, ...]:
        """Every layer of a class, outermost first."""
        return tuple(layer for layer in self.layers if isinstance(layer, kind))

    def first(self, kind: type[L]) -> L | None:
        """The outermost layer of a class."""
        return next(iter(self.all(kind)), None)

    @property
    def above_link(self) -> tuple[Layer, ...]:
        """The layers without the link's header."""
        return tuple(layer for layer in self.layers if not isinstance(layer, Link))

    def text(self, name: Namer = str) -> str:
        """One line: every layer above the link."""
        return " | ".join(layer.text(name) for layer in self.above_link)

    def flow(self, name: Namer = str) -> tuple[str, ...]:
        """What alike packets share: the text of each layer without counters."""
        return tuple(layer.flow(name) for layer in self.above_link)


def decode(data: bytes, linktype: int = ETHERNET, length: int | None = None) -> Packet:
    """Decode a frame; `length` is what it had on the wire where the capture kept less of it."""
    return Packet(tuple(_nested(data, linktype)), len(data) if length is None else length)


def link(frame: Frame) -> Link | None:
    """Decode the header of a frame's link alone; None where it cannot be read."""
    layer = next(_nested(frame.data, frame.linktype))
    return layer if isinstance(layer, Link) else None


def above_link(frame: Frame) -> bytes:
    """Return what a frame carries: an IP packet from its header on, or another message."""
    header = link(frame)
    return frame.data[header.size :] if header else frame.data


# What is left to decode: a decoder, its name for errors, and the bytes.
_Next = tuple["_Decoder", str, bytes]
_Decoder = Callable[[bytes], tuple[Layer, "_Next | None"]]


def _nested(data: bytes, linktype: int) -> Iterator[Layer]:
    decoder = _LINKS.get(linktype)
    if decoder is None:
        yield Other(what=f"link type {linktype}", payload=len(data), size=len(data))
        return
    step: _Next | None = (decoder, "link header", data)
    for _ in range(_DEEPEST):
        if step is None:
            return
        decoder, what, rest = step
        try:
            layer, step = decoder(rest)
        except WireError as error:
            yield Malformed(what=what, reason=str(error), size=len(rest))
            return
        yield layer
    if step is not None:
        yield _bytes(step[2])[0]


def _unpack(header: Struct, data: bytes) -> tuple[Any, ...]:
    if len(data) < header.size:
        raise WireError("truncated", f"{len(data)} bytes")
    return header.unpack_from(data)


def _bytes(data: bytes, what: str = "data") -> tuple[Layer, _Next | None]:
    return Other(what=what, payload=len(data), size=len(data)), None


def _raw_link(data: bytes) -> tuple[Layer, _Next | None]:
    return Link(protocol=_IPV4), (_ipv4, "IP header", data)


def _ethernet(data: bytes) -> tuple[Layer, _Next | None]:
    if len(data) < 14:
        raise WireError("truncated", f"{len(data)} bytes")
    protocol, size = int.from_bytes(data[12:14], "big"), 14
    if protocol == _VLAN and len(data) >= 18:
        protocol, size = int.from_bytes(data[16:18], "big"), 18
    link = Link(source=data[6:12], destination=data[:6], protocol=protocol, size=size)
    return link, _above_link(protocol, data[size:])


def _cooked(data: bytes) -> tuple[Layer, _Next | None]:
    kind, _, length, address, protocol = _unpack(_SLL, data)
    link = Link(source=address[:length], protocol=protocol, outgoing=kind == _OUTGOING, size=_SLL.size)
    return link, _above_link(protocol, data[_SLL.size :])


def _cooked2(data: bytes) -> tuple[Layer, _Next | None]:
    protocol, index, _, kind, length, address = _unpack(_SLL2, data)
    link = Link(
        source=address[:length],
        protocol=protocol,
        interface=index,
        outgoing=kind == _OUTGOING,
        size=_SLL2.size,
    )
    return link, _above_link(protocol, data[_SLL2.size :])


_LINKS: dict[int, _Decoder] = {
    ETHERNET: _ethernet,
    LINUX_SLL: _cooked,
    LINUX_SLL2: _cooked2,
    RAW_IP: _raw_link,
    12: _raw_link,  # what some systems call RAW_IP
}


def _above_link(protocol: int, data: bytes) -> _Next | None:
    if protocol == _IPV4:
        return _ipv4, "IP header", data
    if protocol == _ARP:
        return _arp, "ARP", data
    name = "IPv6" if protocol == 0x86DD else f"EtherType {protocol:#06x}"
    return (lambda rest: _bytes(rest, name)), name, data


def _arp(data: bytes) -> tuple[Layer, _Next | None]:
    _, _, _, _, operation, hardware, sender, _, target = _unpack(_ARP_MESSAGE, data)
    layer = Arp(
        operation=operation,
        sender=IPv4Address(sender),
        target=IPv4Address(target),
        sender_hardware=hardware,
        size=_ARP_MESSAGE.size,
    )
    return layer, None


def _ipv4(data: bytes) -> tuple[Layer, _Next | None]:
    first, _, length, identification, fragment, ttl, protocol, _, source, destination = _unpack(
        _IP_HEADER, data
    )
    size = (first & 0xF) * 4
    if first >> 4 != 4 or size < _IP_HEADER.size:
        raise WireError("version", f"header begins with {first:#04x}")
    if length < size:
        raise WireError("length", f"{length} bytes")
    if len(data) < size:
        raise WireError("truncated", f"{len(data)} bytes")
    header = Ipv4(
        source=IPv4Address(source),
        destination=IPv4Address(destination),
        protocol=protocol,
        ttl=ttl,
        identification=identification,
        length=length,
        offset=(fragment & 0x1FFF) * 8,
        more=bool(fragment & 0x2000),
        size=size,
    )
    payload = data[size:length]  # without the padding of a short Ethernet frame
    return header, _inside(header, payload)


def _udp(data: bytes) -> tuple[Layer, _Next | None]:
    source, destination, length, _ = _unpack(_UDP_HEADER, data)
    payload = data[_UDP_HEADER.size : max(length, _UDP_HEADER.size)]
    layer = Udp(source=source, destination=destination, size=_UDP_HEADER.size)
    ports = (destination, source)
    for port in (4500, *ports):  # whatever a NAT made of the other port
        if port in ports and port in _INSIDE_UDP:
            return layer, (*_INSIDE_UDP[port], payload)
    return layer, ((_bytes, "data", payload) if payload else None)


def _tcp(data: bytes) -> tuple[Layer, _Next | None]:
    source, destination, sequence, acknowledgement, offset, flags, *_ = _unpack(_TCP_HEADER, data)
    size = (offset >> 4) * 4
    if size < _TCP_HEADER.size:
        raise WireError("length", f"header of {size} bytes")
    layer = Tcp(
        source=source,
        destination=destination,
        sequence=sequence,
        acknowledgement=acknowledgement,
        flags=flags,
        payload=max(0, len(data) - size),
        size=max(size, len(data)),
    )
    return layer, None


def _icmp(data: bytes) -> tuple[Layer, _Next | None]:
    kind, code, _, identifier, sequence = _unpack(_ECHO, data)
    if kind in (0, 8):
        layer = Echo(reply=kind == 0, identifier=identifier, sequence=sequence, size=len(data))
        return layer, None
    if kind == agent_advertisement.TYPE:
        return AgentMessage(advertisement=AgentAdvertisement.decode(data), size=len(data)), None
    if kind == agent_solicitation.TYPE:
        agent_solicitation.check(data)
        return AgentMessage(advertisement=None, size=len(data)), None
    if kind in (3, 4, 5, 11, 12):
        quoted = tuple(_nested(data[8:], RAW_IP))[1:]
        if len(quoted) > 1 and isinstance(quoted[-1], Malformed):
            quoted = quoted[:-1]  # only the beginning of a packet is quoted
        return IcmpError(type=kind, code=code, quoted=quoted, size=len(data)), None
    return _bytes(data, f"ICMP type {kind} code {code}")


def _esp(data: bytes) -> tuple[Layer, _Next | None]:
    spi, sequence = _unpack(_ESP_HEADER, data)
    return Esp(spi=spi, sequence=sequence, payload=len(data) - _ESP_HEADER.size, size=len(data)), None


def _mobile_ip(data: bytes, outer: Ipv4 | None = None) -> tuple[Layer, _Next | None]:
    layer = mobile_ip.decode(data)
    if not isinstance(layer, MipUdp):
        return layer, None
    if layer.next_header == _MINIMAL and outer is not None:
        shorter = replace(outer, protocol=_MINIMAL, length=outer.length - _UDP_HEADER.size - layer.size)
        return layer, _inside(shorter, data[layer.size :])
    decoder, what = _INSIDE_IP.get(layer.next_header, (_bytes, "data"))
    return layer, (decoder, what, data[layer.size :])


def _ike(data: bytes) -> tuple[Layer, _Next | None]:
    return _ike_header(data, encapsulated=False)


def _ike_header(data: bytes, *, encapsulated: bool) -> tuple[Layer, _Next | None]:
    initiator, responder, _, version, exchange, flags, message_id, length = _unpack(_IKE_HEADER, data)
    layer = Ike(
        initiator_spi=initiator,
        responder_spi=responder,
        exchange=exchange,
        version=version,
        from_initiator=bool(flags & 0x08),
        response=bool(flags & 0x20),
        message_id=message_id,
        length=length,
        encapsulated=encapsulated,
        size=len(data) + 4 * encapsulated,
    )
    return layer, None


def _nat_traversal(data: bytes) -> tuple[Layer, _Next | None]:
    """Port 4500 (RFC 3948 §2): a keep-alive, IKE behind four zero bytes, else ESP."""
    if data == b"\xff":
        return Other(what="NAT keep-alive", size=1), None
    if data[:4] == bytes(4):
        return _ike_header(data[4:], encapsulated=True)
    return _esp(data)


def _dhcp(data: bytes) -> tuple[Layer, _Next | None]:
    return dhcp.decode(data), None


def _gre(data: bytes) -> tuple[Layer, _Next | None]:
    """RFC 2784, with the fields of RFC 2890 that other tunnels may have."""
    flags, protocol = _unpack(_GRE_HEADER, data)
    if flags & 0x4007:  # routing of RFC 1701, another version
        raise WireError("flags", f"{flags:#06x}")
    present = [bool(flags & bit) for bit in (0x8000, 0x2000, 0x1000)]
    size = _GRE_HEADER.size + 4 * sum(present)
    layer = Gre(protocol=protocol, checksum=present[0], extended=any(present[1:]), size=size)
    return layer, _above_link(protocol, data[size:])


def _udp_in(outer: Ipv4, data: bytes) -> tuple[Layer, _Next | None]:
    """UDP, with the IP header that minimal encapsulation in it goes back to (RFC 3519 §4.3)."""
    layer, step = _udp(data)
    if step is None or step[0] is not _mobile_ip:
        return layer, step
    return layer, (partial(_mobile_ip, outer=outer), *step[1:])


def _behind(outer: Ipv4, payload: bytes) -> tuple[Layer, _Next | None]:
    """The forwarding header of RFC 2004 §3, which stands for a second IP header."""
    protocol, flags, _, destination = _unpack(_MINIMAL_HEADER, payload)
    size = 12 if flags & 0x80 else 8
    if len(payload) < size or not checksum.valid(payload[:size]):
        raise WireError("checksum", payload[:size].hex())
    source = IPv4Address(payload[8:12]) if flags & 0x80 else outer.source
    layer = Minimal(
        source=source,
        destination=IPv4Address(destination),
        protocol=protocol,
        ttl=outer.ttl,
        identification=outer.identification,
        length=outer.length - size,
        size=size,
    )
    return layer, _inside(layer, payload[size:])


def _inside(header: Ipv4, payload: bytes) -> _Next:
    """How to read what an IP header is in front of."""
    protocol = header.protocol
    if header.offset:
        return (lambda rest: _bytes(rest, "fragment")), "fragment", payload
    if protocol == _MINIMAL:
        return partial(_behind, header), "minimal forwarding header", payload
    if protocol == _UDP:
        return partial(_udp_in, header), "UDP", payload
    if protocol in _INSIDE_IP:
        return (*_INSIDE_IP[protocol], payload)
    name = _PROTOCOLS.get(protocol, f"IP protocol {protocol}")
    return (lambda rest: _bytes(rest, name)), name, payload


_INSIDE_IP: dict[int, tuple[_Decoder, str]] = {
    _ICMP: (_icmp, "ICMP"),
    _IPIP: (_ipv4, "IP header"),
    _TCP: (_tcp, "TCP"),
    _UDP: (_udp, "UDP"),
    _GRE: (_gre, "GRE"),
    _ESP: (_esp, "ESP"),
}
_INSIDE_UDP: dict[int, tuple[_Decoder, str]] = {
    67: (_dhcp, "DHCP"),
    68: (_dhcp, "DHCP"),
    MOBILE_IP_PORT: (_mobile_ip, "registration message"),
    500: (_ike, "IKE"),
    4500: (_nat_traversal, "NAT traversal"),
}
