"""What emulates the link: protocol, and the choice between the kernel's netem and the relay of our own."""

from __future__ import annotations

from typing import Protocol

from testbed.agreed import Impairment
from testbed.node.relay.netem import Netem
from testbed.node.relay.relay_toml import BackendChoice
from testbed.node.relay.spawn import CommandError
from testbed.node.relay.tun import TunRelay


class Backend(Protocol):
    """Applies an impairment to every packet that crosses the hub by one interface."""

    @property
    def name(self) -> str:
        """`netem` or `relay`."""

    @property
    def detour(self) -> bool:
        """Whether packets have to be led to it (`gate`)."""

    async def open(self) -> None:
        """Prepare; raises CommandError or OSError where the machine cannot do it."""

    async def apply(self, impairment: Impairment) -> None:
        """Treat packets so from now on."""

    async def counters(self) -> dict[str, int]:
        """Packets and bytes delivered, packets lost, overflowed and held at this moment."""

    async def close(self) -> None:
        """End; until another relay starts no packet crosses the hub untreated."""


async def choose(choice: BackendChoice, interface: str) -> Backend:
    """Open the backend asked for; with `auto`, netem where trying it works, else the relay."""
    if choice != "relay":
        netem = Netem(interface)
        try:
            await netem.open()
            return netem
        except (CommandError, OSError):
            if choice == "netem":
                raise
    relay = TunRelay(interface)
    await relay.open()
    return relay
