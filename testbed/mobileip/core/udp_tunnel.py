"""What a home agent decides about tunnelling in UDP, through a NAT (RFC 3519 §4.6)."""

from __future__ import annotations

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.core.disposition import Deny
from testbed.mobileip.core.parameters import HomeAgentConfig
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.udp_tunnel import (
    DECLINED,
    GRE,
    IP_IN_IP,
    MINIMAL,
    REPLY,
    REQUEST,
    UdpTunnelReply,
    UdpTunnelRequest,
)


def asked(request: RegistrationRequest) -> tuple[UdpTunnelRequest, bool] | None:
    """What the request asks for, and whether a foreign agent does; None where nobody asks.

    The mobile node puts the extension before its authentication (§4.4), a foreign agent behind that and
    before its own (§4.5). Where an extension is that no authentication covers although there are two, it is
    ignored.
    """
    passed: set[int] = set()
    for extension in request.extensions:
        if extension.type in (MOBILE_HOME, FOREIGN_HOME):
            passed.add(extension.type)
        elif extension.type == REQUEST and FOREIGN_HOME not in passed:
            found = UdpTunnelRequest.decode(extension.data)
            if found is not None:
                return found, MOBILE_HOME in passed
    return None


def through_agent(request: RegistrationRequest) -> bool:
    """Whether a mobile node registers its own care-of address through a foreign agent behind a NAT (§4.11)."""
    found = asked(request)
    return found is not None and found[0].through_agent and not found[1]


def decide(config: HomeAgentConfig, datagram: Datagram, request: RegistrationRequest) -> UdpTunnelReply | None:
    """The answer to what is asked for; None where none is due. Raises Deny.

    Whoever is answered by an assenting reply has a tunnel in UDP, and no other.
    """
    found = asked(request)
    if found is None or request.lifetime == 0:
        return None
    tunnel, by_agent = found
    if by_agent is bool(request.flags & RequestFlag.DECAPSULATION):  # §3.1.5, §4.6.1
        raise Deny(Code.HA_POORLY_FORMED_REQUEST, "UDP tunnel asked for by who is not its end")
    offer = config.udp_tunnel
    # §4.6: a mismatch of source and care-of address "as the indication that a mobile node may reside behind a
    # NAT"; with R the source is the foreign agent's, which knows of the NAT.
    behind_nat = datagram.source != request.care_of_address
    if not (behind_nat or tunnel.force):
        return UdpTunnelReply(DECLINED) if offer is not None else None
    if offer is None:
        raise Deny(Code.HA_PROHIBITED, "UDP tunnel not permitted")
    if not behind_nat and not offer.forced:
        raise Deny(Code.HA_PROHIBITED, "UDP tunnel not permitted without a NAT")
    if (tunnel.encapsulation or _by_flags(request.flags)) != IP_IN_IP:  # §3.1.4, §4.1
        raise Deny(Code.HA_UDP_ENCAPSULATION_UNAVAILABLE)
    return UdpTunnelReply(forced=tunnel.force, keepalive=offer.keepalive)


def _by_flags(flags: int) -> int:
    if flags & RequestFlag.GRE:
        return GRE
    return MINIMAL if flags & RequestFlag.MINIMAL else IP_IN_IP


def answered(reply: RegistrationReply, *, to_agent: bool) -> UdpTunnelReply | None:
    """The home agent's answer in a reply: to the mobile node, or to the foreign agent; None without.

    Only what precedes the Mobile-Home Authentication Extension is for the mobile node, as that covers it, and
    only what follows it for the foreign agent. Raises WireError.
    """
    passed = False
    for extension in reply.extensions:
        if extension.type == MOBILE_HOME:
            passed = True
        elif extension.type == REPLY and passed is to_agent:
            return UdpTunnelReply.decode(extension.data)
    return None
