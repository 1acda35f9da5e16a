"""The TOML file of many mobile nodes in one process.

```toml
control = "/run/testbed/bulk-nodes.sock"  # optional, as everything that has a default below
count = 5000                                 # mobile nodes
home-address = "10.64.0.10"                  # of the first; those of the others follow it
home-prefix = "10.64.0.0/16"
home-agent = "203.0.113.41"
lifetime = 600                               # seconds, asked for at each registration
reverse-tunnel = true                        # RFC 3024
table = 440                                  # the routing table of the first network; more for the others
attach = "hotel"                             # the network where all attach at first; default: none
within = 10.0                                # seconds that this takes
[security]                                   # of each with its home agent
spi = 256
key = "00112233445566778899aabbccddeeff"
[[network]]
name = "hotel"                               # the interface, too
care-of = "100.64.0.0/17"                    # care-of addresses, all of which are this node's
router = "198.51.100.65"
```
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.io.daemon_toml import control
from testbed.mobileip.io.instance import Instance, read_instance
from testbed.mobileip.io.security_toml import association, build
from testbed.mobileip.io.table import Table
from testbed.mobileip.wire.value import value

FIRST_TABLE = 440


@value
class Visited:
    """A network that the nodes can attach to."""

    name: str
    care_of: IPv4Network
    router: IPv4Address


@value
class BulkSettings:
    """What a file says."""

    first: MobileNodeConfig
    count: int
    networks: tuple[Visited, ...]
    attach: str | None
    within: float
    control: Path | None
    instance: Instance

    def configs(self) -> list[MobileNodeConfig]:
        """The configuration of each node; raises ValueError where home addresses leave the home prefix."""
        home = self.first.home_address
        assert home is not None
        return [replace(self.first, home_address=home + number) for number in range(self.count)]


def read(file: Path) -> BulkSettings:
    """Read a file; raises ConfigError."""
    table = Table.load(file)
    agent = table.address("home-agent")
    security = association(table.table("security"), agent)
    first = build(
        table,
        lambda: MobileNodeConfig(
            home_address=table.address("home-address"),
            home_prefix=table.network("home-prefix"),
            home_agent=agent,
            security=security,
            lifetime=table.integer("lifetime", 600),
            reverse_tunnel=table.boolean("reverse-tunnel", True),
        ),
    )
    count = table.integer("count")
    if not 1 <= count <= 1_000_000:
        raise table.error("count", f"expected 1 to 1000000, got {count}")
    networks = tuple(_network(each) for each in table.tables("network"))
    attach = table.string("attach", None)
    if attach is not None and attach not in [each.name for each in networks]:
        raise table.error("attach", f"there is no network {attach!r}")
    settings = BulkSettings(
        first,
        count,
        networks,
        attach,
        table.amount("within", 0.0),
        control(table),
        read_instance(table, "bulk-nodes", FIRST_TABLE),
    )
    table.finish()
    return settings


def _network(table: Table) -> Visited:
    network = Visited(table.string("name"), table.network("care-of"), table.address("router"))
    table.finish()
    return network
