"""Messages of Mobile IP at UDP port 434: registrations (RFC 5944 §3) and tunnel data (RFC 3519 §3.3)."""

from __future__ import annotations

from testbed.mobileip.wire import registration_reply, registration_request, udp_tunnel
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest
from testbed.packet.layers import Layer, MipUdp, MobileIp, Other

_REGISTRATIONS: dict[int, type[RegistrationRequest] | type[RegistrationReply]] = {
    registration_request.TYPE: RegistrationRequest,
    registration_reply.TYPE: RegistrationReply,
}


def decode(data: bytes) -> Layer:
    """Read a message, without what tunnel data carries; raises WireError where its header is cut short."""
    if not data:
        raise WireError("truncated", "no bytes")
    if data[0] == udp_tunnel.DATA:
        message = udp_tunnel.TunnelData.decode(data)
        return MipUdp(next_header=message.next_header, size=udp_tunnel.HEADER_SIZE)
    registration = _REGISTRATIONS.get(data[0])
    if registration is None:
        return Other(what=f"Mobile IP type {data[0]}", payload=len(data), size=len(data))
    try:
        return MobileIp(message=registration.decode(data), size=len(data))
    except WireError:
        return MobileIp(message=registration.decode_fixed(data), complete=False, size=len(data))
