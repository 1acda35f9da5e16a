"""What a foreign agent makes of a request for the home agent (RFC 5944 §3.7.2.2)."""

from __future__ import annotations

from ipaddress import IPv4Address

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.association import Associations, sign
from testbed.mobileip.core.parameters import ForeignAgentConfig
from testbed.mobileip.wire import PORT, udp_tunnel
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.udp_tunnel import UdpTunnelRequest


def relayed(
    config: ForeignAgentConfig, home_agents: Associations, datagram: Datagram, request: RegistrationRequest
) -> Datagram:
    """The request for the home agent: what was only for us removed, our proof added."""
    source = request.care_of_address if offers(config, request.care_of_address) else config.care_of
    payload = _payload(config, home_agents, datagram.payload[: authorized_end(request)], request)
    return Datagram(payload, source, config.port, request.home_agent, PORT)


def _payload(
    config: ForeignAgentConfig, home_agents: Associations, payload: bytes, request: RegistrationRequest
) -> bytes:
    if asks_for_udp(config, request):
        payload += UdpTunnelRequest(encapsulation=udp_tunnel.IP_IN_IP).encode().encode()
    association = home_agents.choose(request.home_agent)
    if association is None or not request.lifetime or not offers(config, request.care_of_address):
        return payload
    return sign(payload, FOREIGN_HOME, association)


def offers(config: ForeignAgentConfig, care_of: IPv4Address) -> bool:
    """Whether this is a care-of address of the agent."""
    return care_of in config.care_of_addresses


def asks_for_udp(config: ForeignAgentConfig, request: RegistrationRequest) -> bool:
    """Whether the tunnel has its end here, and so behind the NAT (RFC 3519 §4.5)."""
    if not offers(config, request.care_of_address) or request.flags & RequestFlag.DECAPSULATION:
        return False
    return config.udp_tunnel and request.lifetime > 0


def authorized_end(message: RegistrationRequest | RegistrationReply) -> int:
    """Where the last extension ends that proves the message to its final recipient."""
    return max(extension.end for extension in message.extensions if extension.type == MOBILE_HOME)
