"""What a home agent has answered about a tunnel in UDP (RFC 3519)."""

from __future__ import annotations

from testbed.mobileip.wire.authentication import MOBILE_HOME
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.udp_tunnel import REPLY, UdpTunnelReply


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
