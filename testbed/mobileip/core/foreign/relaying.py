"""How a foreign agent passes requests and replies on (RFC 5944 §3.7.2.2, §3.7.3.1)."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.association import Associations, AuthenticationError, sign
from testbed.mobileip.core.disposition import Deny
from testbed.mobileip.core.foreign.config import ForeignAgentConfig
from testbed.mobileip.core.links import UNSPECIFIED
from testbed.mobileip.core.udp_tunnel import answered
from testbed.mobileip.wire import PORT, udp_tunnel
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME, in_order
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import GENERALIZED_AUTHENTICATION
from testbed.mobileip.wire.nai import nai_of
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.udp_tunnel import UdpTunnelReply, UdpTunnelRequest


def offers(config: ForeignAgentConfig, care_of: IPv4Address) -> bool:
    """Whether this is a care-of address of the agent."""
    return care_of in config.care_of_addresses


def asks_for_udp(config: ForeignAgentConfig, request: RegistrationRequest) -> bool:
    """Whether the tunnel has its end here, and so behind the NAT (RFC 3519 §4.5)."""
    if not offers(config, request.care_of_address) or request.flags & RequestFlag.DECAPSULATION:
        return False
    return config.udp_tunnel and request.lifetime > 0


def relayed(
    config: ForeignAgentConfig,
    home_agents: Associations,
    datagram: Datagram,
    request: RegistrationRequest,
    extension: bytes,
) -> Datagram:
    """The request for the home agent: what was only for us removed, `extension` and our proof added."""
    care_of = request.care_of_address if offers(config, request.care_of_address) else config.care_of
    payload = datagram.payload[: authorized_end(request)] + extension
    if asks_for_udp(config, request):
        payload += UdpTunnelRequest(encapsulation=udp_tunnel.IP_IN_IP).encode().encode()
    association = home_agents.choose(request.home_agent)
    if association is not None and request.lifetime and care_of == request.care_of_address:
        payload = sign(payload, FOREIGN_HOME, association)
    return Datagram(payload, care_of, config.port, request.home_agent, PORT)


def check_reply(
    config: ForeignAgentConfig,
    home_agents: Associations,
    datagram: Datagram,
    request: RegistrationRequest,
    counters: Counter[str],
) -> tuple[RegistrationReply, UdpTunnelReply | None]:
    """The reply to `request`, and its answer about a tunnel in UDP.

    Raises Deny with what the mobile node gets instead, and a reason fit for a counter; WireError
    "unknown-extension" for a reply to be discarded silently.
    """
    try:
        reply = RegistrationReply.decode(datagram.payload)
        answer = answered(reply, to_agent=True) if asks_for_udp(config, request) else None
    except WireError as error:
        if error.reason == "unknown-extension":
            raise
        raise Deny(Code.FA_POORLY_FORMED_REPLY, "poorly-formed-reply") from error
    proven = any(extension.type == MOBILE_HOME for extension in reply.extensions)
    if not proven or not in_order(reply.extensions):
        raise Deny(Code.FA_POORLY_FORMED_REPLY, "poorly-formed-reply")
    if request.home_agent in home_agents and request.lifetime:
        try:
            home_agents.authenticate(datagram.payload, reply.extensions, FOREIGN_HOME, request.home_agent)
        except AuthenticationError as error:
            counters[f"home-agent-{error.reason}"] += 1
            raise Deny(Code.FA_HOME_AGENT_FAILED_AUTHENTICATION, "failed-authentication") from error
    return reply, answer


def lacking(request: RegistrationRequest, reply: RegistrationReply) -> Code | None:
    """What the mobile node is to be informed of that a reply lacks (RFC 2794 §3)."""
    if nai_of(request.extensions) is not None and nai_of(reply.extensions) is None:
        return Code.FA_MISSING_NAI
    if reply.home_agent == UNSPECIFIED:
        return Code.FA_MISSING_HOME_AGENT
    if reply.home_address == UNSPECIFIED:
        return Code.FA_MISSING_HOME_ADDRESS
    return None


def nai_in(payload: bytes) -> str | None:
    """The NAI in a reply that may be anything."""
    try:
        return nai_of(RegistrationReply.decode(payload).extensions)
    except WireError:
        return None


def authorized_end(message: RegistrationRequest | RegistrationReply) -> int:
    """Where the last extension ends that proves the message to its final recipient, or to AAA.

    What is proven to AAA must be relayed with its challenge (RFC 4721 §3.2).
    """
    proofs = MOBILE_HOME, GENERALIZED_AUTHENTICATION
    return max(extension.end for extension in message.extensions if extension.type in proofs)
