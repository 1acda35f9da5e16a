"""What a home agent checks in a request besides authentication (RFC 5944 §3.8.2, RFC 3024 §4.3.1)."""

from __future__ import annotations

from collections.abc import Container
from ipaddress import IPv4Address

from testbed.mobileip.core.aaa import Credentials
from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.association import AuthenticationError
from testbed.mobileip.core.disposition import Deny
from testbed.mobileip.core.encapsulations import available
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.links import is_unicast
from testbed.mobileip.core.parameters import ReverseTunnel
from testbed.mobileip.wire.authentication import in_order
from testbed.mobileip.wire.challenge import challenge
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.nai import in_place, nai_of
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag


def verify_for_aaa(credentials: Credentials, datagram: Datagram, request: RegistrationRequest) -> None:
    """Verify, in the place of AAA, what proves a mobile node to that (RFC 4721 §3.4). Raises Deny."""
    value = challenge(request.extensions)
    try:
        credentials.verify(datagram.payload, request, nai_of(request.extensions), value)
    except AuthenticationError as error:
        raise Deny(Code.HA_BAD_AAA_AUTHENTICATION, error.reason) from error


def check_request(
    config: HomeAgentConfig,
    datagram: Datagram,
    request: RegistrationRequest,
    homes: Container[IPv4Address],
) -> None:
    """Whether an authentic request can be granted; `homes`: those of all it serves. Raises Deny."""
    if request.home_agent != config.address or config.is_broadcast(datagram.destination):
        raise Deny(Code.HA_UNKNOWN_HOME_AGENT)
    if request.flags & RequestFlag.X:
        raise Deny(Code.HA_POORLY_FORMED_REQUEST, "reserved bit set")
    if not in_order(request.extensions):
        raise Deny(Code.HA_POORLY_FORMED_REQUEST, "an authentication precedes the Mobile-Home one")
    if not in_place(request.extensions):
        raise Deny(Code.HA_POORLY_FORMED_REQUEST, "an NAI is repeated or follows an authentication")
    if not config.serves(request.home_address):
        raise Deny(Code.HA_PROHIBITED, "home address not supported")
    if request.lifetime == 0:
        return
    care_of = request.care_of_address
    if not is_unicast(care_of) or care_of == request.home_address or config.is_never_care_of(care_of):
        raise Deny(Code.HA_POORLY_FORMED_REQUEST, "care-of address impossible")
    if care_of in homes:
        raise Deny(Code.HA_PROHIBITED, "care-of address is a home address")  # tunnels might loop
    if not available(request.flags, config.encapsulations):
        raise Deny(Code.HA_ENCAPSULATION_UNAVAILABLE)
    wants_reverse = bool(request.flags & RequestFlag.REVERSE_TUNNEL)
    if config.reverse_tunnel is ReverseTunnel.REQUIRED and not wants_reverse:
        raise Deny(Code.HA_REVERSE_TUNNEL_MANDATORY)
    if config.reverse_tunnel is ReverseTunnel.REFUSED and wants_reverse:
        raise Deny(Code.HA_REVERSE_TUNNEL_UNAVAILABLE)
