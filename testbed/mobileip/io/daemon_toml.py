"""What the TOML files of the three daemons have in common; `home_agent_toml` and its like read the rest.

Where a node has several daemons, no two have the same name, device, protocol and table:

```toml
name = "home-agent"                          # in its events; default: the role
device = "mip"                               # its tunnel devices are mip0, mip1 and so on
protocol = 143                               # `proto` of its routes and rules
table = 434                                  # mobile node: its routing table
                                             # foreign agent (435): its first; more for further kernel tunnels
merge-segments = true                        # TCP goes into a process's tunnels as superpackets, which the
                                             # kernel forwards: rules of nftables for what the node itself
                                             # sends do not see them. It needs VXLAN. Default: false
```
"""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Generic, TypeVar

from testbed.mobileip.core.parameters import ALTERNATIVES, Advertising, ReverseTunnel
from testbed.mobileip.io.instance import Instance
from testbed.mobileip.io.security_toml import build
from testbed.mobileip.io.table import Table
from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.value import value

C = TypeVar("C")
DEFAULT_PREFERENCE = 230


@value
class Attachment:
    """What a mobile node on its own attaches to when it starts."""

    interface: str
    care_of: IPv4Address | None
    """None: look for an agent."""


@value
class Settings(Generic[C]):
    """What a file says: to the core, and to the shell around it."""

    core: C
    control: Path | None
    instance: Instance
    rule_preference: int = DEFAULT_PREFERENCE
    rule_from_home_address: bool = False
    attachment: Attachment | None = None
    state: Path | None = None
    """Where an agent keeps what outlives its process; None: beside its control socket, if it has one."""
    ipsec_here: bool = False
    """Whether IPsec in the node may route packets for a home address elsewhere than into its tunnel."""
    merges_segments: bool = False
    """Whether TCP goes into a process's tunnels as superpackets (`tunnel.merging`)."""
    processes: int = 1
    """How many processes share a home agent's mobile nodes out (`shards`)."""


def control(table: Table) -> Path | None:
    """The path of the control socket."""
    path = table.string("control", None)
    return Path(path) if path else None


def merges_segments(table: Table) -> bool:
    """Whether TCP goes into tunnels as superpackets."""
    return table.boolean("merge-segments", False)


def state(table: Table) -> Path | None:
    """The path of the file that outlives the process."""
    path = table.string("state", None)
    return Path(path) if path else None


def reverse_tunnel(table: Table) -> ReverseTunnel:
    """What an agent does about the T bit."""
    value = table.boolean_or_choice("reverse-tunnel", ("required",), True)
    if value == "required":
        return ReverseTunnel.REQUIRED
    return ReverseTunnel.OFFERED if value else ReverseTunnel.REFUSED


def encapsulations(table: Table) -> tuple[Encapsulation, ...]:
    """What an agent supports beside IP in IP."""
    return tuple(each for each in ALTERNATIVES if table.boolean(each.value, True))


def advertising(table: Table) -> Advertising:
    """The table `[advertisement]`."""
    interval, lifetime = table.number("interval", 1.0), table.integer("lifetime", 3)
    return build(table, lambda: Advertising(interval, lifetime))
