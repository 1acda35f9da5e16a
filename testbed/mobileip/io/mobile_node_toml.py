"""The TOML file of a mobile node; besides it has what `daemon_toml` says.

```toml
home-address = "10.0.1.100"                  # absent: assigned by the home agent, to the NAI
nai = "mn@example.net"                       # absent: none (RFC 2794)
home-prefix = "10.0.1.0/24"
home-agent = "10.0.1.2"
home-router = "10.0.1.1"
lifetime = 600
reverse-tunnel = true
delivery = "direct"                          # to a foreign agent, or "encapsulating" (RFC 3024)
encapsulation = "ip-in-ip"                   # asked for, or "gre", "minimal"
udp-tunnel = "off"                           # "nat": asked for through NATs, or "forced" (RFC 3519)
keepalive = 110                              # seconds, where the home agent asks for none
revocation = false                           # true: the home agent may revoke what is registered directly
broadcasts = false                           # those of the home network, by the B bit
mip-rule-preference = 230                    # `ip rule` preference of the routes into the tunnel
mip-rule-from = "all"                        # or "home-address": only packets from there take them
port = 434                                   # UDP port that requests are sent from
simultaneous = 0                             # seconds that a care-of address is kept beside the next (S bit)
[security]                                   # shared with the home agent: algorithm and replay alike
spi = 256
key = "…"
# [[other-home-agent]] with address = "…", spi and key: asked in turn where one is silent or unwilling
[attachment]                                 # use this at the start; else wait for the control socket
interface = "eth0"
mode = "discover"                            # or "co-located", with care-of = "…"
# [[foreign-security]] with foreign-agent = "…"
# [aaa] with spi and key: by which challenges are answered
```
"""

from __future__ import annotations

from pathlib import Path

from testbed.mobileip.core.delivery import Delivery
from testbed.mobileip.core.mobile.config import MobileNodeConfig, UdpTunnel
from testbed.mobileip.core.parameters import ALTERNATIVES
from testbed.mobileip.io.daemon_toml import (
    DEFAULT_PREFERENCE,
    Attachment,
    Settings,
    control,
    merges_segments,
)
from testbed.mobileip.io.instance import MOBILE_NODE_TABLE, read_instance
from testbed.mobileip.io.security_toml import association, build, credential
from testbed.mobileip.io.table import Table
from testbed.mobileip.wire import PORT
from testbed.mobileip.wire.encapsulation import Encapsulation

_CHOICES = tuple(each.value for each in (Encapsulation.IP_IN_IP, *ALTERNATIVES))


def read(file: Path) -> Settings[MobileNodeConfig]:
    """Read a mobile node's file; raises ConfigError."""
    table = Table.load(file)
    agent = table.address("home-agent")
    security = association(table.table("security"), agent, registers=True)
    others = tuple(
        association(each, each.address("address"), registers=True)
        for each in table.tables("other-home-agent")
    )
    aaa = None
    if table.has("aaa"):
        node = table.string("nai") if table.has("nai") else table.address("home-address")
        aaa = credential(table.table("aaa"), node)
    foreign_agents = tuple(
        association(entry, entry.address("foreign-agent")) for entry in table.tables("foreign-security")
    )
    core = build(
        table,
        lambda: MobileNodeConfig(
            home_address=table.address("home-address", None),
            nai=table.string("nai", None),
            home_prefix=table.network("home-prefix"),
            home_agent=agent,
            security=security,
            home_router=table.address("home-router", None),
            lifetime=table.integer("lifetime", 600),
            port=table.integer("port", PORT),
            reverse_tunnel=table.boolean("reverse-tunnel", False),
            delivery=table.member("delivery", Delivery, Delivery.DIRECT),
            udp_tunnel=table.member("udp-tunnel", UdpTunnel, UdpTunnel.OFF),
            keepalive=table.integer("keepalive", 110),
            encapsulation=Encapsulation(table.choice("encapsulation", _CHOICES, _CHOICES[0])),
            revocation=table.boolean("revocation", False),
            broadcasts=table.boolean("broadcasts", False),
            other_home_agents=others,
            overlap=table.number("simultaneous", 0.0),
            foreign_agents=foreign_agents,
            aaa=aaa,
        ),
    )
    preference = table.integer("mip-rule-preference", DEFAULT_PREFERENCE)
    if not 1 <= preference <= 32765:  # between the rules of the tables local and main
        raise table.error("mip-rule-preference", f"expected 1 to 32765, not {preference}")
    attachment = _attachment(table.table("attachment")) if table.has("attachment") else None
    from_home = table.choice("mip-rule-from", ("all", "home-address"), "all") == "home-address"
    if from_home and core.home_address is None:
        raise table.error("mip-rule-from", "home-address is missing")
    instance = read_instance(table, "mobile-node", MOBILE_NODE_TABLE)
    settings = Settings(
        core,
        control(table),
        instance,
        preference,
        from_home,
        attachment,
        merges_segments=merges_segments(table),
    )
    table.finish()
    return settings


def _attachment(table: Table) -> Attachment:
    mode = table.choice("mode", ("discover", "co-located"), "discover")
    care_of = table.address("care-of") if mode == "co-located" else None
    attachment = Attachment(table.string("interface"), care_of)
    table.finish()
    return attachment
