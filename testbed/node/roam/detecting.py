"""The steps of a move where the mobile node finds out by itself whether a network is inside.

RFC 5265 §3.3: two requests go out at once, to the home agent inside over the network itself and to the one
outside. An answer of the former that has the Trusted Networks Configured extension means inside, whatever
has been begun for outside. An answer of the latter means outside, until then: IPsec from the home address
outside.
RFC 5266 §3.4 has MOBIKE in the place of the home agent outside.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Any

from testbed.agreed import IPSEC_DEVICE
from testbed.node.roam.attachment import Agent, Attachment, Discovery, Home
from testbed.node.roam.attempt import ALIVE, Attempt, tell_address
from testbed.node.roam.links import Lease
from testbed.node.roam.mobile_ip import Message, MobileIp
from testbed.node.roam.move import Outcome
from testbed.node.roam.node import is_inside
from testbed.node.roam.registration import Registration, Target, standing
from testbed.node.roam.vpn import Tunnel


class DetectingAttempt(Attempt):
    """An attempt on a network of which nothing is known."""

    async def _run(self, fresh: bool) -> Outcome:
        node, network = self._node, self._move.network
        if fresh:
            self._used, node.used = node.used, False
            node.join(network)
            self._move.reached("link")
        elif node.inside == network:  # where the link has not changed since (RFC 5265 §3.2.3)
            return await self._register_inside(node.attachment)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def heard(event: Message) -> None:
            if is_inside(event, network) and not answer.done():
                answer.set_result(event)

        with node.mobile_ip.listening(heard):
            outside = asyncio.create_task(self._go_outside())
            try:
                waiting: set[asyncio.Future[Any]] = {outside, answer}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    return await outside
            finally:
                outside.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await outside
        return await self._go_inside(answer.result())

    async def _detect(self, care_of: IPv4Address | None = None) -> None:
        """Ask the home agent inside: from an address, or without it through an agent."""
        fields = {} if care_of is None else {"care_of": str(care_of)}
        await self._node.mobile_ip.request("detect", interface=self._move.network, **fields)

    async def _go_inside(self, answer: Message) -> Outcome:
        node = self._node
        node.inside = self._move.network
        found: Attachment | None = node.attachment
        if answer.get("mode") == "home":
            found = Home()
        elif answer.get("mode") == "foreign-agent":
            found = Agent(str(answer.get("agent")), str(answer.get("care_of")))
        if found is not None and found != node.attachment:
            node.attachment = found
            tell_address(self._move, found)
        if node.outer is not None:
            node.say_goodbye(node.outer)
        return await self._register_inside(found)

    async def _register_inside(self, attachment: Attachment | None) -> Outcome:
        """By what is standard Mobile IPv4 (RFC 5265 §2.1, §2.2)."""
        node = self._node
        assert attachment is not None
        if node.vpn is not None and node.vpn.tunnel is not None:
            self._steer(node.vpn.tunnel, False)
        if node.monitor is not None:
            node.monitor.arrived()
        return await self._register_directly(attachment)

    async def _register_directly(self, attachment: Attachment) -> Outcome:
        if not isinstance(attachment, Lease):
            interface = self._move.network
            await self._node.mobile_ip.request("discover", interface=interface, register=True)
        return await self._register(attachment)

    async def _go_outside(self) -> Outcome:
        outer = self._node.outer
        outcome = await (self._through_gateway() if outer is None else self._through(outer))
        if outcome.complete:
            await self._node.mobile_ip.request("rest")
        return outcome

    async def _through_gateway(self) -> Outcome:
        """RFC 5266: from an address of the network, never through an agent (§3)."""
        node = self._node
        if not isinstance(node.attachment, Lease):
            await self._detect()
            node.attachment = await self._lease()
        if node.attachment is None:
            return Outcome("unregistered", "no-address: no DHCP server answered")
        await self._detect(node.attachment.address.ip)
        tell_address(self._move, node.attachment)
        if not node.ipsec:
            return await self._register_directly(node.attachment)
        await asyncio.sleep(node.config.detection or 0.0)
        return await self._register_inside_ipsec(node.attachment)

    async def _through(self, outer: MobileIp) -> Outcome:
        """RFC 5265: IPsec from the home address outside, which is registered through what there is."""
        node, move = self._node, self._move
        with Registration(outer) as registration:
            if not isinstance(node.attachment, Lease):
                await self._detect()
                node.attachment = await Discovery(outer, node.dhcp, move.network, register=True).find(
                    self._bounds.address
                )
                if isinstance(node.attachment, Lease):
                    node.links.use_lease(node.attachment)
            attachment = node.attachment
            if attachment is None:
                return Outcome("unregistered", "no-address: neither a DHCP server nor an agent answered")
            tell_address(move, attachment)
            if not node.ipsec:
                return await self._register_directly(attachment)
            target: Target
            if isinstance(attachment, Lease):
                target = attachment.address.ip
                await outer.request("attach", interface=move.network, care_of=str(target))
                await self._detect(target)
            else:
                target = attachment
            outcome = await registration.outcome(target, self._bounds.registration, self._patient)
        if not outcome.complete:
            return Outcome("unregistered", f"outside: {outcome.detail}")
        move.reached("registration", mode="outside", detail=outcome.detail)
        await asyncio.sleep(node.config.detection or 0.0)
        return await self._register_inner()

    async def _register_inner(self) -> Outcome:
        """IPsec from the home address outside; it stays, and so does what is registered in it."""
        node, used = self._node, self._used
        assert node.vpn is not None
        kept = node.vpn.tunnel
        inner = await self._use(kept)
        node.used = True
        if kept is not None and node.inner == inner:
            return standing(inner)
        if kept is None or used:
            return await self._register_address(IPSEC_DEVICE, inner)
        # The gateway may have forgotten us meanwhile: what it asked us came to nobody.
        outcome = await self._register_address(IPSEC_DEVICE, inner, ALIVE)
        if outcome.complete:
            return outcome
        return await self._register_address(IPSEC_DEVICE, await self._use(None))

    async def _use(self, tunnel: Tunnel | None) -> IPv4Address:
        """Send what is for the inside into IPsec, through a new security association where there is none."""
        node = self._node
        assert node.config.outer is not None
        tunnel = tunnel or await self._negotiate(node.config.outer.home_address, None)
        assert tunnel.inner is not None
        self._steer(tunnel, True)
        return tunnel.inner
