"""The foreign agent (RFC 5944 §3.7)."""

from __future__ import annotations

from ipaddress import IPv4Address

from testbed.mobileip.core.api import AgentMessage, Clock, Datagram, Effect
from testbed.mobileip.core.config import ForeignAgentConfig


class ForeignAgent:
    """The foreign agent (RFC 5944 §3.7)."""

    def __init__(self, config: ForeignAgentConfig, clock: Clock) -> None:
        self.config = config
        self._clock = clock
        self._effects: list[Effect] = []

    def receive(self, datagram: Datagram, now: float) -> None:
        """Take a UDP datagram that arrived at port 434."""

    def receive_agent_message(self, message: AgentMessage, now: float) -> None:
        """Take an ICMP type 9 or 10 message."""

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""

    def deadline(self) -> float | None:
        """The next `now` at which `tick` has something to do."""
        return None

    def effects(self) -> list[Effect]:
        """Drain the effects since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects

    def state(self, now: float) -> dict[str, object]:
        """A JSON-serialisable picture."""
        return {}

    def unreachable(self, home_agent: IPv4Address, icmp_code: int, now: float) -> None:
        """ICMP Destination Unreachable with `icmp_code` came back for a request relayed to `home_agent`."""
        raise NotImplementedError
