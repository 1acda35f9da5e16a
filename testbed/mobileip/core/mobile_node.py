"""The mobile node (RFC 5944 §2.4, §3.6)."""

from __future__ import annotations

from ipaddress import IPv4Address

from testbed.mobileip.core.api import AgentMessage, Clock, Datagram, Effect
from testbed.mobileip.core.config import MobileNodeConfig


class MobileNode:
    """The mobile node (RFC 5944 §2.4, §3.6)."""

    def __init__(self, config: MobileNodeConfig, clock: Clock) -> None:
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

    def attach(self, interface: str, care_of: IPv4Address, now: float) -> None:
        """Use the co-located care-of address `care_of` on `interface` and register it directly."""
        raise NotImplementedError

    def discover(self, interface: str, now: float, register: bool = True) -> None:
        """Look for an agent on `interface`; without `register` only use it as default router."""
        raise NotImplementedError

    def detach(self, now: float) -> None:
        """Forget the attachment; send nothing."""
        raise NotImplementedError

    def deregister(self, now: float) -> None:
        """Ask the home agent to delete all bindings, over the current attachment."""
        raise NotImplementedError
