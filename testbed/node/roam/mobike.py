"""How far charon has come in moving a security association to another address (RFC 4555 §3.5).

charon notices by itself that the address has changed, and reports when the IKE SA has its new ends. With ESP
in the kernel the CHILD_SA has them, too. libipsec cannot change the ends of a CHILD_SA: another takes its
place, in an exchange that the gateway begins, and until then nothing gets through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

IKE_UPDATE, CHILD_REKEY = "ike-update", "child-rekey"
EVENTS = (IKE_UPDATE, CHILD_REKEY)
"""Events of charon that say how far it has come."""


class Following:
    """What charon has reported since the mobile node left a link."""

    def __init__(self, local: IPv4Address, in_place: bool) -> None:
        """It was bound to `local`. `in_place`: the ends of a CHILD_SA can be changed."""
        self._in_place = in_place
        self._local = local
        self._rekeyed = self._over = False
        self._news = asyncio.Event()

    def heard(self, event: str, message: Mapping[str, Any]) -> None:
        """Take an event of charon about the IKE SA."""
        if event == IKE_UPDATE:
            self._local, self._rekeyed = IPv4Address(message["local-host"].decode()), False
        elif event == CHILD_REKEY:
            self._rekeyed = True
        self._news.set()

    def end(self) -> None:
        """The IKE SA is no more."""
        self._over = True
        self._news.set()

    async def arrived(self, local: IPv4Address) -> bool:
        """Wait until data can be sent from `local`; False when the IKE SA ends before that.

        Another NAT may lend the address that the one before has lent. charon then has nothing to change but
        where the gateway sends to, which it notices with its next DPD (RFC 4555 §3.8); with ESP in the
        kernel the gateway notices it by the first data.
        """
        while not self._over:
            if self._local == local and (self._in_place or self._rekeyed):
                return True
            self._news.clear()
            await self._news.wait()
        return False
