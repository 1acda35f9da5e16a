"""The mobile node as its connection manager has it: its parts, and where it stands."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

from testbed.node.roam.attachment import Agent, Attachment
from testbed.node.roam.dhcp import Dhcp
from testbed.node.roam.links import Lease, Links
from testbed.node.roam.mobile_ip import Message, MobileIp, MobileIpError
from testbed.node.roam.monitor import Monitor
from testbed.node.roam.roam_toml import RoamConfig
from testbed.node.roam.vpn import Tunnel, Vpn

GOODBYE = 1.0
"""Seconds in which the home agent outside may confirm that we have come inside; the firewall is between."""


@dataclass
class Node:
    """What a mobile node consists of, and where it stands."""

    config: RoamConfig
    links: Links
    dhcp: Dhcp
    mobile_ip: MobileIp
    vpn: Vpn | None
    monitor: Monitor | None
    """Of what may pass unprotected; where there is a `vpn`."""
    ipsec: bool
    """The policy: IPsec is used on networks that are not trusted."""
    network: str | None = None
    attachment: Attachment | None = None
    former: str | None = None
    """The link that the last move left, while it stays up."""
    inner: IPv4Address | None = None
    """The inner address of the VPN, while it is registered."""
    outer: MobileIp | None = None
    """The daemon of the Mobile IP outside of IPsec (x-MIP of RFC 5265)."""
    inside: str | None = None
    """The network that has been found to be inside, while it is not left."""
    goodbye: asyncio.Task[None] | None = None
    used: bool = False
    """Whether the security association was in use on the link that the last move led to."""

    def join(self, network: str) -> None:
        """Leave the present link with all that was obtained on it, and join another (or the same anew).

        Raises LinkError.
        """
        if self.monitor is not None:
            self.monitor.left()
        self.dhcp.stop()
        self.leave_former()
        if (
            self.config.simultaneous
            and isinstance(self.attachment, Lease | Agent)
            and self.network != network
        ):
            self.former = self.network
            self.links.keep_lease()
        elif self.network is not None:
            self.links.down(self.network)
        self.attachment = self.inside = None
        self.network = network
        if self.goodbye is not None:
            self.goodbye.cancel()
        if self.vpn is not None and self.kept is not None:
            self.vpn.leave()
        if self.monitor is not None:
            self.monitor.joins(network)
        self.links.up(network)  # comes up while what was obtained on the other is cleared away
        self.links.drop_lease(routes=False)

    def leave_former(self) -> None:
        """Leave the link that the last move has left up. Raises LinkError."""
        former, self.former = self.former, None
        if former is not None:
            self.links.drop_former()
            self.links.down(former)

    def trusts(self, network: str) -> bool:
        """Whether a network is inside, as far as is known."""
        if self.config.detection is None:
            return self.config.trusted[network]
        return self.inside == network

    def say_goodbye(self, outer: MobileIp) -> None:
        """Leave the home agent outside, until the next network is joined."""
        self.goodbye = asyncio.create_task(leave(outer))

    @property
    def kept(self) -> Tunnel | None:
        """The security association that outlives a move, where MOBIKE has it follow."""
        return self.vpn.tunnel if self.vpn is not None and self.vpn.follows else None

    def heard(self, event: Message) -> None:
        """Take an event of the Mobile IP daemon: for the monitor, and whether the former link is used."""
        match event["event"]:
            case "registered":
                inner = self.vpn.tunnel.inner if self.vpn is not None and self.vpn.tunnel else None
                self.inner = inner if event.get("care_of") == str(inner) else None
            case "detached" | "deregistered" | "registration-expired" | "registration-revoked":
                self.inner = None
            case "detected" if is_without_proof(event):
                self.inner = None
        if (
            event["event"] in ("care-of-given-back", "care-of-revoked", "deregistered")
            or event.get("beside") == 0
        ):
            self.leave_former()
        if self.monitor is not None and self.network is not None:
            self.monitor.heard(event, self._grants_inside(event, self.network))

    def _grants_inside(self, event: Message, network: str) -> bool:
        """Whether what an event says to be granted is granted inside."""
        if self.config.detection is not None:  # RFC 5265 §3.2.1, §3.2.3
            return event.get("trusted") is True and event.get("interface") == network
        # IPsec inside MIPv4 is bound to the home address and is left out at home alone.
        return self.config.trusted[network] and (
            self.config.stack == "mip-in-ipsec" or event.get("mode") == "home"
        )


async def leave(outer: MobileIp) -> None:
    """Give back what the home agent outside has granted (RFC 5265 §3.3), as far as it can be reached."""
    gone = asyncio.Event()

    def heard(event: Message) -> None:
        if event["event"] == "deregistered":
            gone.set()

    with suppress(MobileIpError), outer.listening(heard):
        await outer.request("deregister")
        with suppress(TimeoutError):
            await asyncio.wait_for(gone.wait(), GOODBYE)
        await outer.request("detach")


def is_inside(event: Message, network: str | None) -> bool:
    """Whether an event of the Mobile IP daemon shows that a network is inside."""
    return event["event"] == "detected" and event.get("inside") is True and event.get("interface") == network


def is_without_proof(event: Message) -> bool:
    """Whether an event shows that a home agent has registered us, and proved nothing."""
    return event["event"] == "detected" and event.get("inside") is False and event.get("code") in (0, 1)
