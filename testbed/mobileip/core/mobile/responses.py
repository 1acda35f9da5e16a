"""How a mobile node answers the challenges of foreign agents (RFC 4721 §3.1, §3.5)."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Address

from testbed.mobileip.core.aaa import prove
from testbed.mobileip.core.association import Associations, sign
from testbed.mobileip.core.security import Credential
from testbed.mobileip.wire.authentication import MOBILE_FOREIGN
from testbed.mobileip.wire.challenge import CHALLENGE
from testbed.mobileip.wire.extension import Extension

_AGENTS = 32
"""Whose challenges are remembered."""


class Responses:
    """The newest challenge of each agent heard, in an advertisement or a reply, and what answers it."""

    def __init__(self, agents: Associations, credential: Credential | None) -> None:
        """`agents` are the associations with foreign agents."""
        self._agents = agents
        self._credential = credential
        self._newest: OrderedDict[IPv4Address, bytes] = OrderedDict()
        self._used: bytes | None = None

    def heard(self, agent: IPv4Address, challenge: bytes | None) -> None:
        """The agent's latest message had this challenge, or none."""
        if challenge is None:
            return
        self._newest.pop(agent, None)
        self._newest[agent] = challenge
        if len(self._newest) > _AGENTS:
            self._newest.popitem(last=False)

    def spent(self, agent: IPv4Address) -> bool:
        """Whether the agent's newest challenge has been used: the next request needs another."""
        return self._newest.get(agent) in (None, self._used)

    def sign(self, request: bytes, agent: IPv4Address | None) -> bytes:
        """`request`, proven to the home agent, with what proves it to the foreign agent as well (§3.1).

        An older challenge than the newest is never used. With nothing that could prove it, a challenge goes
        unanswered: a request without is denied, one with is discarded (§3.2).
        """
        if agent is None:
            return request
        association, challenge = self._agents.choose(agent), self._newest.get(agent)
        if challenge is not None and (association is not None or self._credential is not None):
            self._used = challenge
            request += Extension(CHALLENGE, challenge).encode()
            if self._credential is not None:
                request = prove(request, self._credential, challenge)
        return request if association is None else sign(request, MOBILE_FOREIGN, association)
