"""Where a home agent's replies go (RFC 5944 §3.8.3)."""

from __future__ import annotations

from testbed.mobileip.core.api import Datagram, SendDatagram
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.links import is_unicast
from testbed.mobileip.wire.registration_request import RegistrationRequest


def returned_home(datagram: Datagram, request: RegistrationRequest) -> bool:
    """Whether the mobile node asks from its home address: it is at home, whatever binding still exists."""
    return request.lifetime == 0 and request.care_of_address == request.home_address == datagram.source


def to_sender(
    config: HomeAgentConfig, datagram: Datagram, request: RegistrationRequest, payload: bytes
) -> SendDatagram:
    """`payload` for where `request` came from; on the home link to the sender's link address (§3.8.3.1)."""
    source = datagram.destination
    if not is_unicast(source) or config.is_broadcast(source):
        source = config.address
    at_home = returned_home(datagram, request)
    return SendDatagram(
        Datagram(
            payload,
            source,
            datagram.destination_port,
            datagram.source,
            datagram.source_port,
            config.home_interface if at_home else None,
            link_address=datagram.link_address if at_home else None,
        )
    )
