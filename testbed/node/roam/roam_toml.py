"""The configuration of the connection manager, `/etc/testbed/roam.toml`.

```toml
control = "/run/testbed/roam.sock"   # default: this
stack = "mip-in-ipsec"               # mip-only | mip-in-ipsec | ipsec-in-mip | mip-in-ipsec-in-mip
attach = "hotel"                     # network joined at start; absent: none, wait for a `move`
home-address = "10.0.1.100"
monitor = 60                         # default: this; seconds from a registration inside until data stops
detection = 0                        # absent: `trusted` says what is inside; else the home agent's answer
                                     # does, for which IKE waits so many seconds outside (RFC 5265)
roaming-vpn = "wg0"                  # absent: Mobile IP; else the VPN that follows moves in its place
probe = "10.0.4.10"                  # echo destination that ends the timeline; absent: no data step

[networks.hotel]                     # one table per access network; the name is the interface's name
trusted = false                      # true: inside the protected network, no IPsec there
[networks.campus]
trusted = true
registrations = true                 # default: false; they pass unprotected there, whatever IPsec protects

[mobile-ip]                          # the Mobile IP daemon of this node
control = "/run/testbed/mobile-node.sock"   # default: this

[outer]                              # required by stack = "mip-in-ipsec-in-mip": the Mobile IP outside
control = "/run/testbed/x-mobile-node.sock"   # default: this
home-address = "198.51.100.200"

[ipsec]                              # required unless stack = "mip-only"
gateway = "203.0.113.2"
protects = ["10.0.0.0/8"]            # remote traffic selectors
psk = "secret"
local-id = "mn"
remote-id = "gw"
mobike = false                       # default: this
vici = "/var/run/charon.vici"        # default: this

[bounds]                             # seconds a step may take before the move settles without it; defaults:
address = 3.0                        # neither a DHCP answer nor an agent
ike = 6.0
registration = 4.0
data = 2.0
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import cast

from testbed.agreed import DUAL, OUTER, ROAM, STACKS, Stack, control_socket
from testbed.mobileip.io.table import Table


@dataclass(frozen=True, slots=True)
class Ipsec:
    """How to reach and authenticate to the VPN gateway."""

    gateway: IPv4Address
    protects: tuple[IPv4Network, ...]
    psk: str
    local_id: str
    remote_id: str
    mobike: bool
    vici: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds each step of a move may take before the move settles without it."""

    address: float
    ike: float
    answer: float
    """The gateway has to have answered at all within this part of `ike`."""
    registration: float
    data: float

    def scaled(self, factor: float) -> Bounds:
        """The same bounds times `factor`, as the first attempts at start are short.

        A negotiation that the gateway takes part in has all its time: begun anew it would be a second one.
        """
        return Bounds(
            factor * self.address,
            self.ike,
            factor * self.answer,
            factor * self.registration,
            factor * self.data,
        )


@dataclass(frozen=True, slots=True)
class Outer:
    """The Mobile IP outside of IPsec (x-MIP of RFC 5265)."""

    control: str
    home_address: IPv4Address


@dataclass(frozen=True, slots=True)
class RoamConfig:
    """All that `roam.toml` says."""

    control: str
    stack: Stack
    attach: str | None
    home_address: IPv4Address
    monitor: float
    """T_MONITOR of RFC 5265 §3.2.4 in seconds, where there is IPsec."""
    probe: IPv4Address | None
    trusted: Mapping[str, bool]
    """Every access network by name, and whether it is inside the protected network."""
    registering: frozenset[str]
    """Access networks on which registrations pass unprotected, where there is IPsec."""
    mobile_ip: str
    ipsec: Ipsec | None
    bounds: Bounds
    outer: Outer | None = None
    detection: float | None = None
    """Seconds for which IKE waits for an answer of the home agent inside; None: `trusted` is known."""
    roaming: str | None = None
    """The device of a VPN that follows moves by itself and has the home address; Mobile IP is left out."""
    simultaneous: bool = False
    """Whether the link that a move leaves stays up while its care-of address is registered (the S bit)."""


def load(path: Path) -> RoamConfig:
    """Read the file at `path`; raises ConfigError."""
    root = Table.load(path)
    stack = cast(Stack, root.choice("stack", STACKS))
    networks = root.table("networks")
    trusted = {}
    registering = set()
    for name, table in networks.each().items():
        trusted[name] = table.boolean("trusted")
        if table.boolean("registrations", False):
            registering.add(name)
        table.finish()
    attach = root.string("attach", None)
    if attach is not None and attach not in trusted:
        raise root.error("attach", f"no network {attach!r} under [networks]")
    mobile_ip = root.table("mobile-ip")
    bounds = root.table("bounds")
    ike = bounds.amount("ike", 6.0)
    if stack != "mip-only" and not root.has("ipsec"):
        raise root.error("ipsec", f"missing table, needed by stack = {stack!r}")
    if stack == DUAL and not (root.has("outer") and root.has("detection")):
        raise root.error("outer", f"stack = {stack!r} needs this table, and `detection`")
    config = RoamConfig(
        control=root.string("control", control_socket(ROAM)),
        stack=stack,
        attach=attach,
        home_address=root.address("home-address"),
        monitor=root.amount("monitor", 60.0),
        probe=root.address("probe", None),
        trusted=trusted,
        registering=frozenset(registering),
        mobile_ip=mobile_ip.string("control", control_socket("mobile-node")),
        ipsec=_ipsec(root.table("ipsec")) if root.has("ipsec") else None,
        bounds=Bounds(
            address=bounds.amount("address", 3.0),
            ike=ike,
            answer=ike,
            registration=bounds.amount("registration", 4.0),
            data=bounds.amount("data", 2.0),
        ),
        outer=_outer(root.table("outer")) if root.has("outer") else None,
        detection=root.amount("detection", 0.0) if root.has("detection") else None,
        roaming=root.string("roaming-vpn", None),
        simultaneous=root.boolean("simultaneous", False),
    )
    for table in (mobile_ip, bounds, root):
        table.finish()
    return config


def _outer(table: Table) -> Outer:
    outer = Outer(table.string("control", control_socket(OUTER)), table.address("home-address"))
    table.finish()
    return outer


def _ipsec(table: Table) -> Ipsec:
    ipsec = Ipsec(
        gateway=table.address("gateway"),
        protects=table.networks("protects"),
        psk=table.string("psk"),
        local_id=table.string("local-id"),
        remote_id=table.string("remote-id"),
        mobike=table.boolean("mobike", False),
        vici=table.string("vici", "/var/run/charon.vici"),
    )
    table.finish()
    return ipsec
