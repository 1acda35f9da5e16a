"""Finding out what a network offers: DHCP and agent discovery side by side; the first answer decides."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from testbed.node.roam.dhcp import Dhcp
from testbed.node.roam.links import Lease
from testbed.node.roam.mobile_ip import Message, MobileIp

GRACE = 0.5
"""Seconds an address is waited for when an agent alone is of no use (IPsec cannot pass it)."""

INSIST = (0.005, 0.02, 0.08, 0.3)
"""Seconds until agents are asked for again: a link that is coming up often loses the first solicitation."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A foreign agent on the link, being used."""

    address: str | None
    care_of: str | None


@dataclass(frozen=True, slots=True)
class Home:
    """The home link."""


Attachment = Lease | Agent | Home


class Discovery:
    """One search on one interface."""

    def __init__(
        self, mobile_ip: MobileIp, dhcp: Dhcp, interface: str, register: bool, moving: bool = False
    ) -> None:
        self._mobile_ip = mobile_ip
        self._dhcp = dhcp
        self._interface = interface
        self._register = register
        self._leaving = {"moving": True} if moving else {}
        self._detached = False
        self._heard: asyncio.Future[Agent | Home] = asyncio.get_running_loop().create_future()

    async def find(self, bound: float) -> Attachment | None:
        """What the network offers, None when nothing answered in `bound` seconds; raises MobileIpError."""
        with self._mobile_ip.listening(self._listen):
            lease = asyncio.create_task(self._dhcp.lease(self._interface))
            asking = asyncio.create_task(self._ask())
            answers: set[asyncio.Future[Any]] = {lease, self._heard, asking}
            try:
                # What has come counts, even where this process had no time to look before the bound.
                with suppress(TimeoutError):
                    async with asyncio.timeout(bound):
                        await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
                        if asking.done():
                            asking.result()
                        if not self._register and isinstance(self._found(), Agent):
                            await asyncio.wait({lease}, timeout=GRACE)
                return lease.result() if lease.done() else self._found()
            finally:
                lease.cancel()
                asking.cancel()
                self._heard.cancel()

    def _found(self) -> Agent | Home | None:
        return self._heard.result() if self._heard.done() else None

    async def _ask(self) -> None:
        await self._mobile_ip.request("detach", **self._leaving)
        for pause in (*INSIST, float("inf")):
            await self._mobile_ip.request("discover", interface=self._interface, register=self._register)
            await asyncio.sleep(pause)

    def _listen(self, event: Message) -> None:
        name = event["event"]
        if name == "detached":
            self._detached = True
        elif self._heard.done() or not self._detached:
            return  # decided already, or of an earlier attachment
        elif name == "at-home":
            self._heard.set_result(Home())
        elif name == "request-sent" and event.get("mode") == "foreign-agent":
            self._heard.set_result(Agent(_text(event, "destination"), _text(event, "care_of")))
        elif name == "agent-advertisement" and not self._register and _serves(event):
            self._heard.set_result(Agent(_text(event, "agent"), _text(event, "care_of")))


def _serves(event: Message) -> bool:
    return bool(event.get("foreign_agent")) and not event.get("busy")


def _text(event: Message, field: str) -> str | None:
    value = event.get(field)
    return value if isinstance(value, str) else None
