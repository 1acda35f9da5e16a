"""Whether the mobile node is inside, and for how long that is believed (RFC 5265 §3.2.3, §3.2.4).

Inside is where a registration reply of the home agent came through the access link itself.  From the request
on that it answers, data may pass unprotected for T_MONITOR; in time before the end the mobile node registers
anew.  When no reply comes in time, data stops and where the mobile node is has to be found out again: a cable
may be in another socket, and no name of an interface says so.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address

from testbed.node.roam.links import LinkError
from testbed.node.roam.mobile_ip import Message, MobileIp, MobileIpError
from testbed.node.roam.policy import Policy

GRACE = 10.0
"""Seconds before the end at which the mobile node registers anew, time for some repetitions; at most half of
T_MONITOR."""
MARGIN = 0.1
"""Seconds by which data stops before T_MONITOR: for what lies between our clock and the kernel's."""


class Monitor:
    """Opens the IPsec policy when a registration inside is granted, and closes it in time."""

    def __init__(self, policy: Policy, mobile_ip: MobileIp, home: IPv4Address, period: float) -> None:
        """`period` is T_MONITOR in seconds, `home` the home address."""
        self._policy = policy
        self._mobile_ip = mobile_ip
        self._home = home
        self._period = period
        self._overdue: Callable[[], None] = lambda: None
        self._timers: list[asyncio.TimerHandle] = []  # there are some while data may pass
        self._renewing: asyncio.Task[None] | None = None
        self._attached = False

    @property
    def inside(self) -> bool:
        """Whether data may pass unprotected now."""
        return bool(self._timers)

    def watch(self, overdue: Callable[[], None]) -> None:
        """From now on call `overdue` when a registration was not renewed in time; raises LinkError.

        Of what a predecessor opened nothing stays open.
        """
        self._overdue = overdue
        self._policy.close()

    def joins(self, link: str) -> None:
        """The mobile node has left its link, and `link` comes up next. Raises LinkError."""
        self._policy.join(link)

    def left(self) -> None:
        """The link changes: data stops at once, and what is still heard speaks of the link before.

        Raises LinkError when data cannot be stopped.
        """
        self._attached = False
        self._close()

    def arrived(self) -> None:
        """What is heard from now on speaks of the present link."""
        self._attached = True
        with _complaining():
            self._close()

    def heard(self, event: Message, inside: bool) -> None:
        """Take an event of the Mobile IP daemon; `inside`: what is granted on this link is granted inside."""
        with _complaining():
            match event["event"], event.get("mode"):
                case "detached", _:
                    self.arrived()
                case ("registered", _) | ("deregistered", "home") if self._attached and inside:
                    self._granted(event)

    def _granted(self, event: Message) -> None:
        loop = asyncio.get_running_loop()
        end = float(str(event["requested"])) + self._period
        left = end - MARGIN - loop.time()
        if left <= 0:
            return
        addresses = [self._home]
        if event.get("mode") == "co-located":
            addresses.append(IPv4Address(str(event["care_of"])))
        self._policy.admit(addresses, left)
        self._cancel()
        self._timers = [
            loop.call_at(end - min(GRACE, self._period / 2), self._renew),
            loop.call_at(end - MARGIN, self._ended),
        ]

    def _renew(self) -> None:
        self._renewing = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        with suppress(MobileIpError):  # then it is overdue, or registers anew when it is there again
            await self._mobile_ip.request("renew")

    def _ended(self) -> None:
        with _complaining():
            self._close()
        self._cancel()
        self._overdue()

    def _cancel(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = []

    def _close(self) -> None:
        if self._timers:
            self._policy.close()
            self._cancel()


@contextmanager
def _complaining() -> Iterator[None]:
    """What cannot be closed here the kernel closes when its time is up."""
    try:
        yield
    except LinkError as error:
        print(f"roam: {error}", file=sys.stderr)
