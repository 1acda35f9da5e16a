"""DHCP messages (RFC 2131), as far as drawings show them."""

from __future__ import annotations

from ipaddress import IPv4Address
from struct import Struct

from testbed.mobileip.wire.error import WireError
from testbed.packet.layers import Dhcp

_FIXED = Struct("!BBBBIHHIIII16s64s128sI")
_COOKIE = 0x63825363
_LENGTHS = {50: 4, 53: 1, 54: 4}


def decode(data: bytes) -> Dhcp:
    """Read a message; raises WireError where it, or an option of interest, is cut short."""
    if len(data) < _FIXED.size:
        raise WireError("truncated", f"{len(data)} bytes")
    fields = _FIXED.unpack_from(data)
    hardware_length, client, offered, hardware, cookie = (
        fields[2],
        fields[7],
        fields[8],
        fields[11],
        fields[14],
    )
    options = _options(data[_FIXED.size :]) if cookie == _COOKIE else {}
    return Dhcp(
        type=options.get(53, b"\0")[0],
        client_hardware=hardware[:hardware_length],
        client=IPv4Address(client),
        offered=IPv4Address(offered),
        requested=IPv4Address(options.get(50, bytes(4))),
        server=IPv4Address(options.get(54, bytes(4))),
        size=len(data),
    )


def _options(data: bytes) -> dict[int, bytes]:
    """The options we show; raises WireError where one has not its length."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset < len(data) and data[offset] != 255:
        if data[offset] == 0:
            offset += 1
            continue
        if offset + 2 > len(data):
            raise WireError("truncated", f"option {data[offset]}")
        code, end = data[offset], offset + 2 + data[offset + 1]
        value = data[offset + 2 : end]
        if code in _LENGTHS:
            if len(value) != _LENGTHS[code]:
                raise WireError("length", f"option {code} of {len(value)} bytes")
            found[code] = value
        offset = end
    return found
