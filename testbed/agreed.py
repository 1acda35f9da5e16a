"""What the host and the programs inside nodes agree on: both read this file, which needs Python alone.

The Mobile IP daemons stand alone: `python -m testbed.mobileip` takes its paths from its configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, get_args

RUN: Final = "/run/testbed"
"""The folder of what a node's programs keep while it runs: control sockets and notes."""
IMPAIRMENTS: Final = f"{RUN}/impairments"
"""The folder of what the kernel does on networks without a hub: NETWORK.json, as a relay's state would be."""
FAILED: Final = f"{RUN}/failed"
"""The folder with an empty file for each link that was cut (`testbed fail`), by its network's name."""
ROAM: Final = "roam"
"""The service that moves a mobile node: its control socket and the source of its events."""
RELAY: Final = "relay"
"""The service that delays packets on a hub."""
RELAY_DEVICE: Final = "relay0"
"""The interface through which a hub's packets go to the relay and come back."""
READY: Final = "ready"
"""The event of a service, and of a program of traffic, that can do its work from now on."""
LACKING: Final = "lacking"
"""The event of a node whose kernel lacks what it was told to use, in words: `what`, and a `hint`."""
MOVE_STARTED: Final = "move-started"
SETTLED: Final = "settled"
"""The first and the last event of a move, whatever came of it."""
ASSOCIATIONS: Final = "associations"
"""The event of charon that says how many IKE SAs (`ike`) and CHILD SAs (`child`) it has."""
CROWD_PATIENCE: Final = 60.0
"""Seconds after the last node of a crowd has moved until its `settled` at the latest."""
IPSEC_DEVICE: Final = "ipsec0"
"""The interface of IPsec: packets on it are not yet encrypted, or not any more."""
ESP_PLANE: Final = f"{RUN}/esp"
"""The note of what carries ESP on a node that does IPsec: `kernel` or `userspace`."""
ESP_KERNEL: Final = "kernel"
ESP_USERSPACE: Final = "userspace"
ESP_MARK: Final = 0x42
"""What ties the kernel's IPsec to its interface, and the mark of what goes past table 220: ESP and IKE."""
INSIDE_PRIORITY: Final = 900_000
"""Of the kernel's IPsec policies by which packets inside pass in clear; charon's have precedence."""
_BETWEEN: Final = "src 192.0.2.1 dst 192.0.2.2"
_SA: Final = f"{_BETWEEN} proto esp spi 0x101"
ESP_TRIAL: Final = "; ".join(
    (
        f"ip xfrm state add {_SA} mode tunnel aead 'rfc4106(gcm(aes))' 0x{'5a' * 20} 128",
        f"ip xfrm state delete {_SA}",
        f"ip xfrm policy add {_BETWEEN} dir in action block",
        f"ip xfrm policy delete {_BETWEEN} dir in",
        f"ip link add {IPSEC_DEVICE} type vti local 192.0.2.1 key {ESP_MARK}",
        f"ip link delete {IPSEC_DEVICE}",
    )
)
"""Commands of a shell that succeed where the kernel has all that ESP takes; they leave nothing behind."""
WIREGUARD_DEVICE: Final = "wg0"
"""The interface of WireGuard, on a mobile node with the home address."""
WIREGUARD_PORT: Final = 51820
ESP_REMEDY: Final = "load the modules esp4, xfrm_user and ip_vti on the engine's host"
HUB_TABLE: Final = 436
HUB_PREFERENCE: Final = 430
"""Routing table and preference of the rule that keep packets from crossing a hub untreated."""


class Op(StrEnum):
    """Requests to control sockets: a relay takes STATE and SET, roam all others and STATE."""

    STATE = "state"
    MOVE = "move"
    IPSEC = "ipsec"
    REPAIR = "repair"
    FORGET = "forget"
    SET = "set"


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a network does to packets; all zero is a perfect one. A relay takes and reports its fields."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    """Uniform, plus or minus, around the delay."""
    loss: float = 0.0
    """Percent of the packets."""
    rate: float = 0.0
    """Bit/s; 0 is unlimited."""

    @property
    def active(self) -> bool:
        """Whether packets are treated in any way."""
        return any((self.delay_ms, self.jitter_ms, self.loss, self.rate))


Stack = Literal["mip-only", "mip-in-ipsec", "ipsec-in-mip", "mip-in-ipsec-in-mip"]
STACKS: Final[tuple[Stack, ...]] = get_args(Stack)
"""Mobile IPv4 alone, inside IPsec, with IPsec inside it (RFC 4093 §2), and both (RFC 5265)."""
DUAL: Final[Stack] = "mip-in-ipsec-in-mip"
MIP_IN_IPSEC: Final = frozenset({"mip-in-ipsec", DUAL})
"""The stacks with Mobile IPv4 inside IPsec: a gateway lends the care-of address."""
OUTER: Final = "x-mobile-node"
"""The service of the Mobile IPv4 that is outside of IPsec (x-MIP of RFC 5265), and its control socket."""
OUTER_DEVICES: Final = "xmip"
"""What the names of its tunnel devices begin with."""

STEPS: Final[Mapping[str, str]] = {
    "link": "link",
    "address": "address",
    "ike": "ike",
    "registration": "registered",
    "data": "data",
}
"""The steps of a hand-off in order, as its timeline has them, each with the event that reports it."""

READABLE: Final = "readable by anybody on this link"
"""Text in every packet of probe and session, to be looked for in captures."""
PROBE_MARKER: Final = f"testbed probe: {READABLE}".encode()
"""What the probe's packets end with."""
MADE_UP: Final = f"testbed made this up: {READABLE}"
"""What the datagrams of the step `send` carry."""
DISCARD_PORT: Final = 9
"""Where they go (RFC 863)."""
RECEIVED: Final = f"{RUN}/received"
"""What came there to a node that listens, one datagram after the other."""


def control_socket(service: str) -> str:
    """The path of a service's control socket."""
    return f"{RUN}/{service}.sock"
