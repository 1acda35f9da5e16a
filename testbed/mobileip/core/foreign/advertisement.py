"""What a foreign agent advertises on the links it serves."""

from __future__ import annotations

from testbed.mobileip.core.encapsulations import advertisement_bits
from testbed.mobileip.core.foreign.config import ForeignAgentConfig
from testbed.mobileip.core.links import VisitedLink
from testbed.mobileip.core.parameters import ReverseTunnel
from testbed.mobileip.wire.agent_advertisement import (
    COMMON_TRAFFIC,
    NO_COMMON_TRAFFIC,
    AgentAdvertisement,
    AgentFlag,
    MobilityAgentExtension,
)


def foreign_agent_advertisement(
    config: ForeignAgentConfig, link: VisitedLink, sequence: int, busy: bool
) -> AgentAdvertisement:
    """What a foreign agent says of itself on a link (RFC 5944 §2.1.1)."""
    flags = AgentFlag.FOREIGN_AGENT | advertisement_bits(config.encapsulations)
    if config.registration_required:
        flags |= AgentFlag.REGISTRATION_REQUIRED
    if config.reverse_tunnel is not ReverseTunnel.REFUSED:
        flags |= AgentFlag.REVERSE_TUNNEL
    if config.udp_tunnel:
        flags |= AgentFlag.UDP_TUNNEL
    if config.revocation:
        flags |= AgentFlag.REVOCATION
    if busy:
        flags |= AgentFlag.BUSY
    return AgentAdvertisement(
        config.advertising.lifetime,
        ((link.address, 0),),
        MobilityAgentExtension(sequence, config.registration_lifetime, flags, config.care_of_addresses),
        None if link.prefix_length is None else (link.prefix_length,),
        # Where nobody has to register, neighbours on the link may use us as any router (§2.1).
        NO_COMMON_TRAFFIC if config.registration_required else COMMON_TRAFFIC,
    )
