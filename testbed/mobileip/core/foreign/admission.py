"""What a foreign agent checks in a request before it relays it (RFC 5944 §3.7.2, RFC 3024 §4.2.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.association import Associations, AuthenticationError
from testbed.mobileip.core.delivery import check_extension, is_encapsulating
from testbed.mobileip.core.disposition import Deny
from testbed.mobileip.core.encapsulations import available
from testbed.mobileip.core.foreign.config import ForeignAgentConfig
from testbed.mobileip.core.links import UNSPECIFIED, is_unicast
from testbed.mobileip.core.parameters import ReverseTunnel
from testbed.mobileip.wire.authentication import MOBILE_FOREIGN, MOBILE_HOME, in_order
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.nai import in_place, nai_of
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag


def check_form(
    request: RegistrationRequest, own: Collection[IPv4Address], home_agents: Collection[IPv4Address]
) -> None:
    """Whether the request is one to be relayed at all; `own` are the agent's addresses. Raises Deny.

    `home_agents` are those of `own` at which a home agent is registered with.
    """
    home_address = request.home_address
    if home_address == UNSPECIFIED and nai_of(request.extensions) is None:
        raise Deny(Code.FA_NONZERO_HOME_ADDRESS_REQUIRED)
    if not in_place(request.extensions):
        raise Deny(Code.FA_POORLY_FORMED_REQUEST, "an NAI is repeated or follows an authentication")
    if request.flags & RequestFlag.X:
        raise Deny(Code.FA_POORLY_FORMED_REQUEST, "reserved bit set")
    possible = is_unicast(home_address) or home_address == UNSPECIFIED
    if not possible or home_address == request.home_agent:
        raise Deny(Code.FA_POORLY_FORMED_REQUEST, "home address impossible")
    if not any(extension.type == MOBILE_HOME for extension in request.extensions):
        raise Deny(Code.FA_POORLY_FORMED_REQUEST, "nothing proves it to the home agent")
    if not in_order(request.extensions):
        raise Deny(Code.FA_POORLY_FORMED_REQUEST, "an authentication precedes the Mobile-Home one")
    check_extension(request)
    if home_address in own:
        raise Deny(Code.FA_PROHIBITED, "home address is the agent's own")
    if not is_unicast(request.home_agent) or (
        request.home_agent in own and request.home_agent not in home_agents
    ):
        raise Deny(Code.FA_INVALID_HOME_AGENT_ADDRESS)


def check_proof(
    nodes: Associations,
    datagram: Datagram,
    request: RegistrationRequest,
    nai: str | None,
    counters: Counter[str],
) -> None:
    """§3.7.2.1, where the mobile node and the agent share an association, one of `nodes`. Raises Deny."""
    node = nodes.known_as(request.home_address, nai)
    if node not in nodes:
        return
    try:
        nodes.authenticate(datagram.payload, request.extensions, MOBILE_FOREIGN, node)
    except AuthenticationError as error:
        counters[f"mobile-node-{error.reason}"] += 1
        raise Deny(Code.FA_MOBILE_NODE_FAILED_AUTHENTICATION, error.reason) from error


def check_service(config: ForeignAgentConfig, datagram: Datagram, request: RegistrationRequest) -> None:
    """Whether what is asked for is on offer. Raises Deny."""
    wants_reverse = bool(request.flags & RequestFlag.REVERSE_TUNNEL)
    if is_encapsulating(request) and not config.encapsulating_delivery:
        raise Deny(Code.FA_DELIVERY_STYLE_NOT_SUPPORTED)
    if wants_reverse and datagram.ttl != 255:
        raise Deny(Code.FA_MOBILE_NODE_TOO_DISTANT)
    if request.lifetime == 0:
        return  # what is well-formed and ends a registration is always relayed (§3.7)
    care_of = request.care_of_address
    if request.flags & RequestFlag.DECAPSULATION:
        if not is_unicast(care_of) or care_of == request.home_address or config.is_never_co_located(care_of):
            raise Deny(Code.FA_INVALID_CARE_OF_ADDRESS)
    elif care_of not in config.care_of_addresses:
        raise Deny(Code.FA_INVALID_CARE_OF_ADDRESS)
    if request.lifetime > config.registration_lifetime:
        raise Deny(Code.FA_LIFETIME_TOO_LONG)
    ours = (
        care_of in config.care_of_addresses
    )  # with any other the mobile node is the end of the tunnel itself
    if ours and not available(request.flags, config.encapsulations):
        raise Deny(Code.FA_ENCAPSULATION_UNAVAILABLE)
    # RFC 3519 §4.5: a NAT translates all addresses, as far as is known.
    mandatory = config.reverse_tunnel is ReverseTunnel.REQUIRED or config.udp_tunnel
    if mandatory and not wants_reverse:
        raise Deny(Code.FA_REVERSE_TUNNEL_MANDATORY)
    if config.reverse_tunnel is ReverseTunnel.REFUSED and wants_reverse:
        raise Deny(Code.FA_REVERSE_TUNNEL_UNAVAILABLE)
