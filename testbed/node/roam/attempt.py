"""The steps of a move: link, address, IPsec and registration, in the order the stack demands."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from ipaddress import IPv4Address

from testbed.agreed import IPSEC_DEVICE
from testbed.node.roam.attachment import Agent, Attachment, Discovery, Home
from testbed.node.roam.links import Lease
from testbed.node.roam.move import Move, Outcome
from testbed.node.roam.node import Node
from testbed.node.roam.registration import Registration, Target, standing
from testbed.node.roam.roam_toml import Bounds
from testbed.node.roam.vpn import Tunnel, VpnError

ALIVE = 2.0
"""Seconds in which a gateway that was out of reach shows that it has kept the security association.

Its own dead peer detection may have deleted that; time for one retransmission.
"""


class Attempt:
    """One attempt to be reachable at the home address on the network a move leads to."""

    def __init__(self, node: Node, move: Move, bounds: Bounds, patient: bool) -> None:
        self._node = node
        self._move = move
        self._bounds = bounds
        self._patient = patient
        self._registration = Registration(node.mobile_ip)
        self._used = node.used

    async def run(self, fresh: bool) -> Outcome:
        """Carry out the steps; unless `fresh` what still holds of the link, address and tunnel is kept.

        Raises LinkError, MobileIpError or VpnError where a step fails for good.
        """
        vpn = self._node.vpn
        with self._registration:
            try:
                return await self._run(fresh)
            finally:
                if vpn is not None and vpn.tunnel is None:  # nor is there its inner address any more
                    self._node.links.use_inner(None)

    async def _run(self, fresh: bool) -> Outcome:
        node, move = self._node, self._move
        trusted = node.config.trusted[move.network]
        inside_ipsec = node.config.stack == "mip-in-ipsec" and node.ipsec and not trusted
        discarded: asyncio.Task[None] | None = None
        if fresh:
            self._used, node.used = node.used, False
            node.join(move.network)
            move.reached("link")
            if node.kept is not None:
                self._steer(node.kept, inside_ipsec)
            elif node.vpn is not None and node.config.stack == "mip-in-ipsec":
                # Bound to the address that is gone; its end is not waited for, the gateway cannot be reached.
                discarded = asyncio.create_task(node.vpn.destroy())
        if node.config.roaming is not None:
            return await self._roam(node.config.roaming)
        if not isinstance(node.attachment, Lease) and inside_ipsec and node.kept is not None:
            node.attachment = await self._lease()
            if node.attachment is None:
                return Outcome("unregistered", "no-address: no DHCP server answered")
        elif not isinstance(node.attachment, Lease):
            discovery = Discovery(
                node.mobile_ip,
                node.dhcp,
                move.network,
                register=not inside_ipsec,
                moving=node.former is not None,
            )
            node.attachment = await discovery.find(self._bounds.address)
            if isinstance(node.attachment, Lease):
                node.links.use_lease(node.attachment)
        attachment = node.attachment
        if attachment is None:
            return Outcome("unregistered", "no-address: neither a DHCP server nor an agent answered")
        tell_address(move, attachment)
        if discarded is not None:
            await discarded
        if inside_ipsec and not isinstance(attachment, Home):
            return await self._register_inside_ipsec(attachment)
        outcome = await self._register(attachment)
        if node.config.stack == "ipsec-in-mip" and outcome.state != "unregistered":
            at_home = trusted and outcome.state == "at-home"
            return await self._protect_home_address(outcome, node.ipsec and not at_home)
        return outcome

    async def _roam(self, device: str) -> Outcome:
        """Without Mobile IP: an address is all that a VPN needs that follows it by itself."""
        node = self._node
        if not isinstance(node.attachment, Lease):
            node.attachment = await self._lease()
        if node.attachment is None:
            return Outcome("unregistered", "no-address: no DHCP server answered")
        tell_address(self._move, node.attachment)
        return Outcome("connected", f"{node.config.home_address} through {device}", complete=True)

    async def _lease(self) -> Lease | None:
        """An address, which is all that the security association needs; no agent is asked.

        What is registered is the inner address, and stays.
        """
        node = self._node
        with suppress(TimeoutError):
            async with asyncio.timeout(self._bounds.address):
                lease = await node.dhcp.lease(self._move.network)
                node.links.use_lease(lease)
                return lease
        return None

    async def _register(self, attachment: Attachment) -> Outcome:
        if isinstance(attachment, Lease):
            return await self._register_address(attachment.interface, attachment.address.ip)
        return await self._answer(attachment)

    async def _register_inside_ipsec(self, attachment: Lease | Agent) -> Outcome:
        """`mip-in-ipsec`: negotiate from what address there is, then register the one the gateway lends."""
        node = self._node
        local = attachment.address.ip if isinstance(attachment, Lease) else node.config.home_address
        tunnel = node.vpn.tunnel if node.vpn else None
        kept = node.kept is not None
        if kept:
            tunnel = await self._follow(local)
        if tunnel is None or tunnel.local != local:
            tunnel = await self._negotiate(local, None)
        assert tunnel.inner is not None
        node.used = True
        if kept and tunnel.inner == node.inner:
            return standing(tunnel.inner)
        # Not the access link: advertisements there say nothing about the link the inner address is on.
        return await self._register_address(IPSEC_DEVICE, tunnel.inner)

    async def _protect_home_address(self, outcome: Outcome, protect: bool) -> Outcome:
        """`ipsec-in-mip`: negotiate once from the home address; the association outlives every move."""
        node = self._node
        assert node.vpn is not None
        assert node.config.ipsec is not None
        home = node.config.home_address
        if node.vpn.tunnel is not None or not protect:
            node.links.steer(node.config.ipsec.protects, home, into_ipsec=protect)
        elif protect:
            try:
                await self._negotiate(home, home)
            except VpnError as error:
                return Outcome(outcome.state, f"{outcome.detail}; {error}")
        return outcome

    async def _negotiate(self, local: IPv4Address, inner: IPv4Address | None) -> Tunnel:
        vpn = self._node.vpn
        assert vpn is not None
        if vpn.tunnel is not None:
            await vpn.destroy()
        self._move.tell("ike-started", local=str(local))
        try:
            tunnel = await vpn.establish(local, inner, self._bounds.ike, self._bounds.answer)
        except VpnError as error:
            self._move.tell("ike-failed", reason=str(error))
            raise
        self._node.links.use_inner(tunnel.inner)
        if vpn.in_kernel:
            self._steer(tunnel, True)
        lent = str(tunnel.inner) if tunnel.inner else None
        self._move.reached("ike", local=str(local), inner=lent)
        return tunnel

    async def _follow(self, local: IPv4Address) -> Tunnel | None:
        """MOBIKE: wait until the security association is bound to another address; None where it is not."""
        vpn = self._node.vpn
        assert vpn is not None
        self._move.tell("mobike-started", local=str(local))
        try:
            tunnel = await vpn.follow(local, self._bounds.ike if self._used else ALIVE)
        except VpnError as error:
            self._move.tell("ike-failed", reason=str(error))
            return None
        self._steer(tunnel, True)  # charon has taken its routes away, and puts them back 100 ms later
        self._move.reached("ike", local=str(local), inner=str(tunnel.inner))
        return tunnel

    def _steer(self, tunnel: Tunnel, into_ipsec: bool) -> None:
        ipsec = self._node.config.ipsec
        assert ipsec is not None
        self._node.links.steer(ipsec.protects, tunnel.inner or tunnel.local, into_ipsec=into_ipsec)

    async def _register_address(
        self, interface: str, care_of: IPv4Address, bound: float | None = None
    ) -> Outcome:
        await self._node.mobile_ip.request("attach", interface=interface, care_of=str(care_of))
        return await self._answer(care_of, bound)

    async def _answer(self, target: Target, bound: float | None = None) -> Outcome:
        bound = self._bounds.registration if bound is None else bound
        outcome = await self._registration.outcome(target, bound, self._patient)
        if outcome.complete:
            mode = "foreign-agent" if isinstance(target, Agent) else "co-located"
            mode = "home" if isinstance(target, Home) else mode
            self._move.reached("registration", mode=mode, detail=outcome.detail)
        return outcome


def tell_address(move: Move, attachment: Attachment) -> None:
    """Report how a network is to be used."""
    match attachment:
        case Lease(address=address, router=router):
            gateway = str(router) if router else None
            move.reached("address", how="dhcp", care_of=str(address.ip), router=gateway)
        case Agent(address=agent, care_of=care_of):
            move.reached("address", how="agent", care_of=care_of, agent=agent)
        case Home():
            move.reached("address", how="home", care_of=None)
