"""The TOML file of a foreign agent; besides it has what `daemon_toml` says.

```toml
state = "/run/testbed/foreign-agent.state"   # visitors; default: beside control
interface = "hotspot"                        # the visited link
address = "198.51.100.1"                     # the agent's address there
care-of = "203.0.113.10"                     # or a list: all are advertised
link = []                                    # tables of interface and address: further visited links
share-port = false                           # true: port 434 at other addresses and links is others'
port = 434                                   # UDP port that requests are relayed from
home-agents-here = []                        # addresses of home agents in this node
behind-nat = false                           # true: the U bit, and tunnels in UDP are asked for (RFC 3519)
keepalive = 110                              # seconds, where the home agent asks for none
encapsulating-delivery = true                # the Encapsulating Delivery Style (RFC 3024); false: code 79
revocation = false                           # true: home agents with [[security]] are asked, X bit (RFC 3543)
challenge-window = 0                         # 2 or more: challenges, of which so many are valid (RFC 4721)
inform-revoked = "home-agent"                # "always" | "never": who decides if mobile nodes are informed
[advertisement]
interval = 1.0
lifetime = 3
registration-lifetime = 600
registration-required = true                 # the R bit
reverse-tunnel = true                        # true | false | "required"
gre = true                                   # the G bit
minimal = true                               # the M bit
[limits]
pending = 1000
visitors = 1000
# [[security]] with mobile-node = "…" or home-agent = "…"
[[aaa]]                                      # what is verified in the place of AAA; also at home agents
mobile-node = "10.0.1.100"
spi = 700                                    # for HMAC-MD5; 2 for CHAP
key = "00112233445566778899aabbccddeeff"
```
"""

from __future__ import annotations

from pathlib import Path

from testbed.mobileip.core.foreign.config import ForeignAgentConfig, Inform
from testbed.mobileip.core.links import VisitedLink
from testbed.mobileip.io.daemon_toml import (
    Settings,
    advertising,
    control,
    encapsulations,
    merges_segments,
    reverse_tunnel,
    state,
)
from testbed.mobileip.io.instance import FOREIGN_AGENT_TABLE, read_instance
from testbed.mobileip.io.security_toml import associations, build, credentials
from testbed.mobileip.io.table import Table
from testbed.mobileip.wire import PORT


def read(file: Path) -> Settings[ForeignAgentConfig]:
    """Read a foreign agent's file; raises ConfigError."""
    table = Table.load(file)
    advertisement, limits = table.table("advertisement"), table.table("limits")
    mobile_nodes, home_agents = associations(table.tables("security"), "mobile-node", "home-agent")
    care_of, *others = table.addresses("care-of") or [table.address("care-of")]
    links = [_link(each) for each in table.tables("link")]
    core = build(
        table,
        lambda: ForeignAgentConfig(
            interface=table.string("interface"),
            address=table.address("address"),
            care_of=care_of,
            other_care_of=tuple(others),
            other_links=tuple(links),
            advertising=advertising(advertisement),
            registration_lifetime=advertisement.integer("registration-lifetime", 600),
            registration_required=advertisement.boolean("registration-required", True),
            reverse_tunnel=reverse_tunnel(advertisement),
            port=table.integer("port", PORT),
            home_agents_here=frozenset(table.addresses("home-agents-here")),
            udp_tunnel=table.boolean("behind-nat", False),
            revocation=table.boolean("revocation", False),
            inform=table.member("inform-revoked", Inform, Inform.HOME_AGENT),
            keepalive=table.integer("keepalive", 110),
            encapsulations=encapsulations(advertisement),
            encapsulating_delivery=table.boolean("encapsulating-delivery", True),
            pending=limits.integer("pending", 1000),
            visitors=limits.integer("visitors", 1000),
            mobile_nodes=mobile_nodes,
            home_agents=home_agents,
            challenge_window=table.integer("challenge-window", 0),
            aaa=credentials(table),
        ),
    )
    instance = read_instance(table, "foreign-agent", FOREIGN_AGENT_TABLE)
    settings = Settings(
        core, control(table), instance, state=state(table), merges_segments=merges_segments(table)
    )
    for part in (advertisement, limits, table):
        part.finish()
    return settings


def _link(table: Table) -> VisitedLink:
    link = VisitedLink(table.string("interface"), table.address("address"))
    table.finish()
    return link
