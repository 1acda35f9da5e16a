"""The TOML file of a home agent; besides it has what `daemon_toml` says.

```toml
control = "/run/testbed/home-agent.sock"     # optional, as everything that has a default below
state = "/run/testbed/home-agent.state"      # bindings, replay protection; default: beside control
address = "10.0.1.2"                         # where mobile nodes register
reverse-tunnel = true                        # true | false | "required" (RFC 3024)
gre = true                                   # whether mobile nodes may ask for it (RFC 2784)
minimal = true                               # and for minimal encapsulation (RFC 2004)
share-port = false                           # true: port 434 at other addresses and links is others'
foreign-agents-here = []                     # care-of addresses of foreign agents in this node
ipsec-here = false                           # true: IPsec in this node may have routes for home addresses
processes = 1                                # that share the mobile nodes out, each with a tunnel device
inform-revoked = true                        # whether foreign agents shall inform mobile nodes (RFC 3543)
[home]
interface = "home"                           # absent: a virtual home network
prefix = "10.0.1.0/24"
advertise = true                             # agent advertisements on the home link
pool = ["10.0.1.192/26"]                     # assigned to mobile nodes known by their NAI (RFC 2794)
[advertisement]
interval = 1.0
lifetime = 3
[limits]
lifetime = 600                               # seconds; the longest registration granted
bindings = 10000                             # shared out among processes by their mobile nodes
simultaneous = 4                             # care-of addresses of one mobile node
[udp-tunnel]                                 # through NATs (RFC 3519)
accept = true                                # false: behind a NAT nobody who asks for it is registered
forced = true                                # also where there is no NAT, when asked for
keepalive = 0                                # seconds that mobile nodes are asked for; 0: none
lifetime = 60                                # seconds; the longest registration granted with it
[trusted]                                    # absent: requests may come from anywhere (RFC 5265)
networks = ["10.0.0.0/8"]                    # from anywhere else they are discarded; default: none is trusted
[replay]
tolerance = 7                                # seconds that timestamps may be off
[[security]]
mobile-node = "10.0.1.100"                   # or its NAI, "mn@example.net"; or foreign-agent = "…"
count = 1                                    # mobile nodes with successive home addresses, all alike
spi = 256
algorithm = "hmac-md5"                       # or "hmac-sha-256", with a key of 32 bytes, or "keyed-md5"
key = "00112233445566778899aabbccddeeff"
replay = "timestamps"                        # or "nonces" (RFC 5944 §5.7); of mobile nodes only
```
"""

from __future__ import annotations

from pathlib import Path

from testbed.mobileip.core.home.config import HomeAgentConfig, UdpTunnelling
from testbed.mobileip.io.daemon_toml import (
    Settings,
    advertising,
    control,
    encapsulations,
    merges_segments,
    reverse_tunnel,
    state,
)
from testbed.mobileip.io.instance import LONGEST_DEVICES, MOST_PROCESSES, Instance, read_instance
from testbed.mobileip.io.security_toml import associations, build, credentials
from testbed.mobileip.io.table import Table


def read(file: Path) -> Settings[HomeAgentConfig]:
    """Read a home agent's file; raises ConfigError."""
    table = Table.load(file)
    home, limits, replay = table.table("home"), table.table("limits"), table.table("replay")
    advertisement, udp_tunnel = table.table("advertisement"), table.table("udp-tunnel")
    mobile_nodes, foreign_agents = associations(
        table.tables("security"), "mobile-node", "foreign-agent", registers=True
    )
    interface = home.string("interface", None)
    how, trusted = advertising(advertisement), table.table("trusted")
    core = build(
        table,
        lambda: HomeAgentConfig(
            address=table.address("address"),
            home_prefix=home.network("prefix"),
            pool=home.networks("pool", ()),
            home_interface=interface,
            advertising=how if home.boolean("advertise", interface is not None) else None,
            lifetime=limits.integer("lifetime", 600),
            bindings=limits.integer("bindings", 10_000),
            simultaneous=limits.integer("simultaneous", 4),
            replay_tolerance=replay.number("tolerance", 7.0),
            reverse_tunnel=reverse_tunnel(table),
            udp_tunnel=_udp_tunnel(udp_tunnel),
            inform_revoked=table.boolean("inform-revoked", True),
            trusted=trusted.networks("networks", ()) if table.has("trusted") else None,
            encapsulations=encapsulations(table),
            foreign_agents_here=frozenset(table.addresses("foreign-agents-here")),
            mobile_nodes=mobile_nodes,
            foreign_agents=foreign_agents,
            aaa=credentials(table),
        ),
    )
    instance, ipsec_here = read_instance(table, "home-agent"), table.boolean("ipsec-here", False)
    settings = Settings(
        core,
        control(table),
        instance,
        state=state(table),
        ipsec_here=ipsec_here,
        merges_segments=merges_segments(table),
        processes=_processes(table, instance),
    )
    for part in (home, limits, trusted, replay, advertisement, udp_tunnel, table):
        part.finish()
    return settings


def _processes(table: Table, instance: Instance) -> int:
    processes = table.integer("processes", 1)
    if not 1 <= processes <= MOST_PROCESSES:
        raise table.error("processes", f"expected 1 to {MOST_PROCESSES}, got {processes}")
    if processes > 1 and len(instance.devices) >= LONGEST_DEVICES:
        most = LONGEST_DEVICES - 1
        raise table.error(
            "device", f"expected up to {most} letters, as each process adds a letter of its own"
        )
    return processes


def _udp_tunnel(table: Table) -> UdpTunnelling | None:
    keepalive, lifetime = table.integer("keepalive", 0), table.integer("lifetime", 60)
    forced = table.boolean("forced", True)
    offer = build(table, lambda: UdpTunnelling(keepalive, forced, lifetime))
    return offer if table.boolean("accept", True) else None
