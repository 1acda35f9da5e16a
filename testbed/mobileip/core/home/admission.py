"""What a home agent checks in a request besides authentication (RFC 5944 §3.8.2, RFC 3024 §4.3.1)."""

from __future__ import annotations

from testbed.mobileip.core.aaa import Credentials
from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.association import AuthenticationError
from testbed.mobileip.core.disposition import Deny
from testbed.mobileip.core.encapsulations import ALTERNATIVES, request_bits
from testbed.mobileip.core.home.addresses import HomeAddresses
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
    if not credentials:
        return
    value = challenge(request.extensions)
    try:
        credentials.verify(datagram.payload, request, nai_of(request.extensions), value)
    except AuthenticationError as error:
        raise Deny(Code.HA_BAD_AAA_AUTHENTICATION, error.reason) from error


class Admission:
    """Checks requests; what the configuration says of addresses is looked up once."""

    def __init__(self, config: HomeAgentConfig, homes: HomeAddresses) -> None:
        self._config = config
        self._homes = homes
        self._broadcasts = config.broadcasts
        self._never_care_of = config.never_care_of
        self._unavailable = sum(
            request_bits(each) for each in ALTERNATIVES if each not in config.encapsulations
        )

    def check(self, datagram: Datagram, request: RegistrationRequest) -> None:
        """Whether an authentic request can be granted. Raises Deny."""
        config = self._config
        if request.home_agent != config.address or datagram.destination in self._broadcasts:
            raise Deny(Code.HA_UNKNOWN_HOME_AGENT)
        if request.flags & RequestFlag.X:
            raise Deny(Code.HA_POORLY_FORMED_REQUEST, "reserved bit set")
        if not in_order(request.extensions):
            raise Deny(Code.HA_POORLY_FORMED_REQUEST, "an authentication precedes the Mobile-Home one")
        if not in_place(request.extensions):
            raise Deny(Code.HA_POORLY_FORMED_REQUEST, "an NAI is repeated or follows an authentication")
        if not self._homes.supports(request.home_address):
            raise Deny(Code.HA_PROHIBITED, "home address not supported")
        if request.lifetime == 0:
            return
        care_of = request.care_of_address
        if not is_unicast(care_of) or care_of == request.home_address or care_of in self._never_care_of:
            raise Deny(Code.HA_POORLY_FORMED_REQUEST, "care-of address impossible")
        if care_of in self._homes:
            raise Deny(Code.HA_PROHIBITED, "care-of address is a home address")  # tunnels might loop
        if request.flags & self._unavailable:
            raise Deny(Code.HA_ENCAPSULATION_UNAVAILABLE)
        wants_reverse = bool(request.flags & RequestFlag.REVERSE_TUNNEL)
        if config.reverse_tunnel is ReverseTunnel.REQUIRED and not wants_reverse:
            raise Deny(Code.HA_REVERSE_TUNNEL_MANDATORY)
        if config.reverse_tunnel is ReverseTunnel.REFUSED and wants_reverse:
            raise Deny(Code.HA_REVERSE_TUNNEL_UNAVAILABLE)
