"""What a packet consists of, header by header: fields, and one line of text for people.

`text` names addresses through a function that the caller gives (`names.Names`), and `flow` is the text
without what changes from one packet of a conversation to the next, so that like packets can be summed up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import ClassVar

from testbed.mobileip.wire.agent_advertisement import AgentAdvertisement, AgentFlag
from testbed.mobileip.wire.code import describe
from testbed.mobileip.wire.nai import nai_if_readable
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag

Namer = Callable[[IPv4Address], str]

REQUEST_LETTERS = tuple(zip(RequestFlag, "SBDMGrTx", strict=True))
AGENT_LETTERS = tuple(zip(AgentFlag, "RBHFMGrTUXI", strict=True))
"""Flags with the letters that the texts give them, in the order of the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One header, or what is inside the innermost; `size` is its length in bytes, trailers included."""

    kind: ClassVar[str] = "data"  # groups layers in drawings
    size: int = 0

    def text(self, name: Namer) -> str:
        """One line for people."""
        raise NotImplementedError

    def flow(self, name: Namer) -> str:
        """The text without counters."""
        return self.text(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Layer):
    """Ethernet, or what tcpdump writes in its place for `-i any`; addresses it does not have are empty."""

    kind: ClassVar[str] = "link"
    source: bytes = b""
    destination: bytes = b""
    protocol: int = 0
    interface: int | None = None  # index, in captures of all interfaces
    outgoing: bool | None = None  # None: the capture does not say

    def text(self, name: Namer) -> str:
        """The addresses."""
        return f"{self.source.hex(':') or '?'}→{self.destination.hex(':') or '?'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arp(Layer):
    """Address resolution (RFC 826)."""

    kind: ClassVar[str] = "arp"
    operation: int
    sender: IPv4Address
    target: IPv4Address
    sender_hardware: bytes

    def text(self, name: Namer) -> str:
        """The request or reply, with its addresses."""
        if self.sender == self.target:
            return f"ARP announcement {name(self.sender)}"
        if self.operation == 1:
            return f"ARP who has {name(self.target)}? tell {name(self.sender)}"
        return f"ARP {name(self.sender)} is at {self.sender_hardware.hex(':')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ipv4(Layer):
    """IPv4 (RFC 791); `offset` is the fragment's in bytes, `more` that fragments follow."""

    kind: ClassVar[str] = "ip"
    source: IPv4Address
    destination: IPv4Address
    protocol: int
    ttl: int
    identification: int
    length: int
    offset: int = 0
    more: bool = False

    def text(self, name: Namer) -> str:
        """From whom to whom."""
        return f"IP {name(self.source)}→{name(self.destination)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimal(Ipv4):
    """Minimal encapsulation (RFC 2004): an inner IP header in short; what it leaves out is the outer's."""

    def text(self, name: Namer) -> str:
        """From whom to whom."""
        return f"Min-Enc {name(self.source)}→{name(self.destination)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gre(Layer):
    """GRE (RFC 2784); `extended` where a key or a sequence number is present (RFC 2890)."""

    kind: ClassVar[str] = "ip"
    protocol: int
    checksum: bool = False
    extended: bool = False

    def text(self, name: Namer) -> str:
        """The protocol's name."""
        return "GRE with key or sequence number" if self.extended else "GRE"


@dataclass(frozen=True, slots=True, kw_only=True)
class MipUdp(Layer):
    """The header of tunnel data (RFC 3519 §3.3), between UDP and what `next_header` names."""

    kind: ClassVar[str] = "ip"
    next_header: int

    def text(self, name: Namer) -> str:
        """Its name."""
        return "MIP-UDP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Udp(Layer):
    """UDP (RFC 768)."""

    kind: ClassVar[str] = "udp"
    source: int
    destination: int

    def text(self, name: Namer) -> str:
        """The port that says what it is, or both."""
        known = [port for port in (self.destination, self.source) if port in _KNOWN_PORTS]
        return f"UDP {known[0]}" if known else f"UDP {self.source}→{self.destination}"


_KNOWN_PORTS = frozenset((67, 68, 434, 500, 4500))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcp(Layer):
    """TCP (RFC 9293); `payload` is the number of bytes it carries."""

    kind: ClassVar[str] = "tcp"
    source: int
    destination: int
    flags: int
    sequence: int
    acknowledgement: int
    payload: int

    @property
    def flag_names(self) -> str:
        """SYN, ACK …"""
        names = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")
        return " ".join(one for bit, one in enumerate(names) if self.flags >> bit & 1)

    def text(self, name: Namer) -> str:
        """Ports, flags and how much."""
        return f"TCP {self.source}→{self.destination} [{self.flag_names}] {self.payload} bytes"

    def flow(self, name: Namer) -> str:
        """Ports, and the flags that begin or end a connection."""
        turn = [one for one in ("SYN", "FIN", "RST") if one in self.flag_names.split()]
        return f"TCP {self.source}→{self.destination}" + (f" [{' '.join(turn)}]" if turn else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo(Layer):
    """ICMP Echo (RFC 792)."""

    kind: ClassVar[str] = "icmp"
    reply: bool
    identifier: int
    sequence: int

    def text(self, name: Namer) -> str:
        """Which echo."""
        return f"{self.flow(name)} #{self.sequence}"

    def flow(self, name: Namer) -> str:
        """Request or reply."""
        return f"ICMP echo {'reply' if self.reply else 'request'}"


_ERRORS = {
    (3, 0): "network unreachable",
    (3, 1): "host unreachable",
    (3, 2): "protocol unreachable",
    (3, 3): "port unreachable",
    (3, 4): "fragmentation needed",
    (3, 9): "network prohibited",
    (3, 10): "host prohibited",
    (3, 13): "administratively prohibited",
    (5, 0): "redirect network",
    (5, 1): "redirect host",
    (11, 0): "time exceeded",
    (11, 1): "reassembly time exceeded",
    (12, 0): "parameter problem",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpError(Layer):
    """An ICMP message about another packet, whose beginning it quotes."""

    kind: ClassVar[str] = "icmp-error"
    type: int
    code: int
    quoted: tuple[Layer, ...] = ()

    def _text(self, quoted: str) -> str:
        what = _ERRORS.get((self.type, self.code), f"type {self.type} code {self.code}")
        return f"ICMP {what}" + (f" (about {quoted})" if quoted else "")

    def text(self, name: Namer) -> str:
        """What went wrong with which packet."""
        return self._text(" | ".join(layer.text(name) for layer in self.quoted))

    def flow(self, name: Namer) -> str:
        """The same for alike packets."""
        return self._text(" | ".join(layer.flow(name) for layer in self.quoted))


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentMessage(Layer):
    """An agent (or plain router) advertisement; None: a solicitation (RFC 5944 §2)."""

    kind: ClassVar[str] = "mobileip"
    advertisement: AgentAdvertisement | None

    def text(self, name: Namer) -> str:
        """Flags, care-of addresses and lifetimes."""
        if self.advertisement is None:
            return "ICMP agent solicitation"
        return self._text(name, f" #{m.sequence}" if (m := self.advertisement.mobility) else "")

    def flow(self, name: Namer) -> str:
        """The same without the sequence number."""
        return "ICMP agent solicitation" if self.advertisement is None else self._text(name, "")

    def _text(self, name: Namer, number: str) -> str:
        assert self.advertisement is not None
        mobility = self.advertisement.mobility
        if mobility is None:
            return "ICMP router advertisement"
        letters = "".join(letter for flag, letter in AGENT_LETTERS if mobility.flags & flag)
        care_of = ", ".join(map(name, mobility.care_of_addresses))
        return (
            f"ICMP agent advertisement{number} [{letters}]"
            + (f", care-of {care_of}" if care_of else "")
            + f", lifetime {self.advertisement.lifetime} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileIp(Layer):
    """A registration message (RFC 5944 §3.3, §3.4); `complete` is False if its extensions are unreadable."""

    kind: ClassVar[str] = "mobileip"
    message: RegistrationRequest | RegistrationReply
    complete: bool = True

    def text(self, name: Namer) -> str:
        """What is asked or answered."""
        message = self.message
        rest = "" if self.complete else ", extensions unreadable"
        if isinstance(message, RegistrationReply):
            word = describe(message.code)
            return f"registration reply {word} ({message.code}), lifetime {message.lifetime} s{rest}"
        letters = "".join(letter for flag, letter in REQUEST_LETTERS if message.flags & flag)
        who = nai_if_readable(message.extensions) if not int(message.home_address) else None
        who = who or name(message.home_address)
        what = f"registration request {who} at {name(message.care_of_address)}"
        if message.lifetime == 0:
            what = f"deregistration request {who}"
            if message.care_of_address != message.home_address:
                what += f" at {name(message.care_of_address)}"
        return f"{what}, lifetime {message.lifetime} s" + (f" [{letters}]" if letters else "") + rest


DHCP_TYPES = {
    1: "discover",
    2: "offer",
    3: "request",
    4: "decline",
    5: "ack",
    6: "nak",
    7: "release",
    8: "inform",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dhcp(Layer):
    """DHCP (RFC 2131); addresses are 0.0.0.0 where the message leaves them out, `type` 0 is plain BOOTP."""

    kind: ClassVar[str] = "dhcp"
    type: int
    client_hardware: bytes
    client: IPv4Address  # ciaddr
    offered: IPv4Address  # yiaddr
    requested: IPv4Address  # option 50
    server: IPv4Address  # option 54

    def text(self, name: Namer) -> str:
        """The type, and the address it is about."""
        about = next((a for a in (self.offered, self.requested, self.client) if int(a)), None)
        return f"DHCP {DHCP_TYPES.get(self.type, self.type)}" + (f" {about}" if about else "")


IKE_EXCHANGES = {34: "IKE_SA_INIT", 35: "IKE_AUTH", 36: "CREATE_CHILD_SA", 37: "INFORMATIONAL"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ike(Layer):
    """The header of an IKEv2 message (RFC 7296 §3.1); `encapsulated`: it came on port 4500 (RFC 3948)."""

    kind: ClassVar[str] = "ike"
    initiator_spi: int
    responder_spi: int
    exchange: int
    version: int
    from_initiator: bool  # the I flag: sent by the initiator of the SA
    response: bool
    message_id: int
    length: int
    encapsulated: bool = False

    @property
    def exchange_name(self) -> str:
        """IKE_SA_INIT …"""
        return IKE_EXCHANGES.get(self.exchange, f"IKE exchange {self.exchange}")

    def text(self, name: Namer) -> str:
        """The exchange, request or response, message id and the initiator's SPI."""
        way = "response" if self.response else "request"
        return f"{self.exchange_name} {way} #{self.message_id} ({self.initiator_spi:016x})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Esp(Layer):
    """ESP (RFC 4303), its inside unreadable; `payload` counts the bytes after SPI and sequence number."""

    kind: ClassVar[str] = "esp"
    spi: int
    sequence: int
    payload: int

    def text(self, name: Namer) -> str:
        """The SPI and sequence number."""
        return f"ESP {self.spi:08x} #{self.sequence}"

    def flow(self, name: Namer) -> str:
        """The SPI."""
        return f"ESP {self.spi:08x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(Layer):
    """Something that is named only: bytes, a protocol without a decoder, a keep-alive, a fragment."""

    what: str
    payload: int = 0

    def text(self, name: Namer) -> str:
        """What it is, and how much."""
        return f"{self.what}, {self.payload} bytes" if self.payload else self.what

    def flow(self, name: Namer) -> str:
        """What it is."""
        return self.what


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed(Layer):
    """A header that cannot be read: which, and why."""

    kind: ClassVar[str] = "malformed"
    what: str
    reason: str

    def text(self, name: Namer) -> str:
        """Both."""
        return f"malformed {self.what}: {self.reason}"
