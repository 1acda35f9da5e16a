"""What a home agent advertises on its home link."""

from __future__ import annotations

from testbed.mobileip.core.encapsulations import advertisement_bits
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.wire.agent_advertisement import (
    AgentAdvertisement,
    AgentFlag,
    MobilityAgentExtension,
)


def home_agent_advertisement(config: HomeAgentConfig, sequence: int) -> AgentAdvertisement:
    """What a home agent says of itself on its home link (RFC 5944 §2.1.1)."""
    assert config.advertising is not None
    return AgentAdvertisement(
        config.advertising.lifetime,
        ((config.advertised_address or config.address, 0),),
        MobilityAgentExtension(
            sequence, config.lifetime, AgentFlag.HOME_AGENT | advertisement_bits(config.encapsulations)
        ),
        (config.home_prefix.prefixlen,),
    )
