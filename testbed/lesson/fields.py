"""The fields of a captured packet that a question can ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from testbed.errors import StepError
from testbed.packet.decode import Packet
from testbed.packet.layers import REQUEST_LETTERS, Esp, Ipv4, MobileIp, Udp

_Read = Callable[[Packet], object]


def _ip(packet: Packet) -> Ipv4:
    return packet.all(Ipv4)[0]


def _inner(packet: Packet) -> Ipv4:
    return packet.all(Ipv4)[1:][-1]


def _udp(packet: Packet) -> Udp:
    return packet.all(Udp)[0]


def _mip(name: str) -> _Read:
    return lambda packet: getattr(packet.all(MobileIp)[0].message, name)


def _flags(packet: Packet) -> str:
    flags = packet.all(MobileIp)[0].message.flags  # type: ignore[union-attr]
    return "".join(letter for flag, letter in REQUEST_LETTERS if flags & flag)


_READ: Final[Mapping[str, _Read]] = {
    "ip.source": lambda packet: _ip(packet).source,
    "ip.destination": lambda packet: _ip(packet).destination,
    "ip.protocol": lambda packet: _ip(packet).protocol,
    "ip.ttl": lambda packet: _ip(packet).ttl,
    "ip.length": lambda packet: _ip(packet).length,
    "inner.source": lambda packet: _inner(packet).source,
    "inner.destination": lambda packet: _inner(packet).destination,
    "inner.protocol": lambda packet: _inner(packet).protocol,
    "udp.source": lambda packet: _udp(packet).source,
    "udp.destination": lambda packet: _udp(packet).destination,
    "esp.spi": lambda packet: f"{packet.all(Esp)[0].spi:08x}",
    "mip.lifetime": _mip("lifetime"),
    "mip.home-address": _mip("home_address"),
    "mip.home-agent": _mip("home_agent"),
    "mip.care-of": _mip("care_of_address"),
    "mip.code": _mip("code"),
    "mip.flags": _flags,
    "length": lambda packet: packet.length,
}
"""Name → how it is read; `ip` is the outermost IP header, `inner` the innermost, `mip` a registration."""

FIELDS: Final = tuple(_READ)


def read_field(packet: Packet, field: str) -> str:
    """A field of a packet as text. Raises `StepError` where the packet has no such header."""
    try:
        return str(_READ[field](packet))
    except (IndexError, AttributeError) as error:
        raise StepError(f"the packet has no {field}") from error
