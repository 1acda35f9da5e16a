"""Which home agent a mobile node asks: its own, one that it was referred to, or the next of its list."""

from __future__ import annotations

from ipaddress import IPv4Address

from testbed.mobileip.core.links import is_unicast
from testbed.mobileip.core.mobile.config import MobileNodeConfig
from testbed.mobileip.core.security import SecurityAssociation
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.registration_reply import RegistrationReply

PATIENCE = 3
"""Requests without a reply after which the next home agent is tried: seven seconds."""
_UNREACHABLE = frozenset(
    (
        Code.FA_REGISTRATION_TIMEOUT,
        Code.FA_HOME_NETWORK_UNREACHABLE,
        Code.FA_HOME_AGENT_HOST_UNREACHABLE,
        Code.FA_HOME_AGENT_PORT_UNREACHABLE,
        Code.FA_HOME_AGENT_UNREACHABLE,
    )
)
"""The home agent cannot be reached, as a foreign agent says (RFC 5944 §3.4)."""
_UNWILLING = frozenset(
    (
        Code.HA_REASON_UNSPECIFIED,
        Code.HA_PROHIBITED,
        Code.HA_INSUFFICIENT_RESOURCES,
        Code.HA_UNKNOWN_HOME_AGENT,
    )
)
"""The home agent says that it does not want to."""


class HomeAgents:
    """The home agents of a mobile node; `current` is asked."""

    def __init__(self, config: MobileNodeConfig) -> None:
        self.current = config.home_agent
        self._own = config.security
        self._others = {
            each.peer: each for each in config.other_home_agents if isinstance(each.peer, IPv4Address)
        }
        self._list = (config.home_agent, *self._others)
        self._asked = {self.current}

    @property
    def security(self) -> SecurityAssociation:
        """The association shared with the current home agent."""
        return self._others.get(self.current, self._own)

    def begin(self) -> None:
        """There is something new to ask: a referral may lead anywhere again."""
        self._asked = {self.current}

    def failed(self) -> bool:
        """Go to the next of the list, as the current one cannot be reached; says whether that is another."""
        another = self._next()
        self.begin()  # or whom a broadcast has found once it would never find again
        return another

    def _next(self) -> bool:
        """Go round and round the list."""
        at = self._list.index(self.current) + 1 if self.current in self._list else 0
        return self._use(self._list[at % len(self._list)])

    def refused(self, reply: RegistrationReply) -> bool:
        """Go where a denial refers to, or to the next of the list; says whether that is another one.

        The Home Agent field of a reply is the address of whoever answers (§3.8.3.2): with code 136 the way to
        learn it (§3.6.1.2), with code 128 the address of another one to ask. Where two refer to each other
        each is asked once.
        """
        referred = is_unicast(reply.home_agent) and reply.home_agent not in self._asked
        if reply.code in (Code.HA_UNKNOWN_HOME_AGENT, Code.HA_REASON_UNSPECIFIED) and referred:
            return self._use(reply.home_agent)
        if reply.code in _UNREACHABLE:
            return self.failed()
        if reply.code not in _UNWILLING:
            return False
        another = self._next()
        if not another:
            self.begin()  # each was asked, and may have changed its mind when the next request is due
        return another

    def _use(self, address: IPv4Address) -> bool:
        another = address != self.current
        self.current = address
        self._asked.add(address)
        return another
