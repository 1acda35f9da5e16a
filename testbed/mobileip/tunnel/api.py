"""What a data plane does for a home agent, a foreign agent or a mobile node."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from ipaddress import IPv4Address
from typing import Protocol

from testbed.mobileip.core.api import FormerTunnel, TunnelEnd
from testbed.mobileip.wire.value import value

DEVICES = "mip"
"""What the names of a daemon's devices begin with, unless it has another: a TUN device is `mip0`, and `mip1`
and so on are the kernel's.
"""
MTU = 1480
"""Of a tunnel in IP in IP over Ethernet: 1500 bytes less the outer header (RFC 2003 §3.1)."""


class Side(Enum):
    """Which end of the tunnels a node holds: it decides where a packet has the mobile node's address."""

    HOME = "home"  # home agent: mobile nodes are destinations of what goes in, sources of what comes out
    VISITED = "visited"  # foreign agent and mobile node: the other way round


@value
class Tunnel:
    """The tunnel of one mobile node.

    Into it go datagrams to (home side) or from (visited side) `mobile`: one copy to each of `ends`, with
    `local` as outer source (RFC 5944 §4.2.3). Out of it come only datagrams that one of `ends` sent to
    `local`, in one of its encapsulations (RFC 3024 §4.3.2), and that are from (home side; RFC 3024 §4.3.2)
    or to (visited side; RFC 5944 §4.2.2) `mobile`.
    """

    mobile: IPv4Address
    local: IPv4Address
    ends: tuple[TunnelEnd, ...]
    broadcasts: tuple[IPv4Address, ...] = ()
    """Further destinations that what comes out may have; 224.0.0.0 stands for every multicast group."""
    former: tuple[FormerTunnel, ...] = ()
    """Further pairs of ends: what one of these sends to the other may come out, and nothing goes in."""
    delivery: TunnelEnd | None = None
    """Our end of a tunnel from the mobile node itself, whose datagrams go on here (RFC 3024 §5.2)."""


def ends_of(tunnel: Tunnel) -> frozenset[IPv4Address]:
    """The addresses that something may come out of a tunnel from."""
    ends = (*tunnel.ends, *(former.home_agent for former in tunnel.former))
    return frozenset(end.address for end in ends)


class PlaneError(Exception):
    """The data plane cannot be set up, or it broke down; the message says what is missing."""


def device_of(result: str | PlaneError) -> str:
    """The device that `DataPlane.set_all` returned for a tunnel; raises PlaneError where it did not."""
    if isinstance(result, PlaneError):
        raise result
    return result


class DataPlane(Protocol):
    """Carries datagrams into and out of tunnels; made by `probe.probe`."""

    @property
    def backend(self) -> str:
        """What carries datagrams now: `tun`, `kernel` or `kernel+tun`."""

    @property
    def anchor(self) -> str:
        """The device that exists all the time, and can hold a home address."""

    @property
    def only_device(self) -> str | None:
        """The device of every tunnel, where all have the same.

        On the home side, what is handed to it for no tunnel is answered by Host Unreachable.
        """

    def set(self, tunnel: Tunnel) -> str:
        """Set up or replace the tunnel of `tunnel.mobile`; returns the device to route its packets into.

        What it replaces stays until `settled`, so that no packet is lost. Raises PlaneError.
        """

    def set_all(self, tunnels: Sequence[Tunnel]) -> list[str | PlaneError]:
        """Set up or replace tunnels of different mobile nodes; returns for each what `set` gives.

        What fails only while routes are made already is for `settled` to say.
        """

    def settled(self, mobile: IPv4Address) -> None:
        """Packets of `mobile` go where `set` said: take down what that replaced.

        Raises PlaneError, also for a tunnel that could not be set up.
        """

    def send(self, mobile: IPv4Address, remotes: Collection[IPv4Address], datagram: bytes) -> None:
        """Send `datagram` into the tunnels of `mobile` to `remotes`, whatever its own addresses are.

        Nothing happens without such a tunnel. Raises PlaneError.
        """

    def remove(self, mobile: IPv4Address) -> None:
        """Take down the tunnel of `mobile`; nothing happens if there is none. Raises PlaneError."""

    def counters(self) -> Mapping[str, int]:
        """Packets and bytes in each direction, and what was dropped and why."""

    def discarded(self) -> list[Mapping[str, str | int]]:
        """What was discarded silently since the last call: reason, addresses, content, at a bounded rate."""

    def check(self) -> bool:
        """See that it works, and mend what can be mended; returns whether something was.

        To be called every now and then. Raises PlaneError for what only a new start of the daemon mends.
        """

    def close(self) -> None:
        """Take every tunnel and device down."""
