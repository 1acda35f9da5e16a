"""What the shell asks of a role: to carry out, in this node's kernel, what its core decides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from testbed.mobileip.core.api import Datagram, Effect
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.io.steering import Share
from testbed.mobileip.tunnel.api import MTU, DataPlane, PlaneError
from testbed.mobileip.wire.encapsulation import OVERHEAD, Encapsulation

Refusals = dict[int, NodeError | PlaneError]
"""Why an effect could not be carried out, by its position."""


class Role(ABC):
    """Home agent, foreign agent or mobile node, as seen from the kernel."""

    watched: tuple[str, ...] = ()
    """The links on which the senders' link addresses of requests are wanted."""
    listens: tuple[str, ...] = ()
    """The links on which agent discovery is heard from the start."""
    announces: str | None = None
    """The link of a gratuitous ARP that names none."""

    share: Share | None = None
    """The mobile nodes of this process, where the daemon has several; None: all."""

    def __init__(self, netlink: Netlink, plane: DataPlane) -> None:
        self.plane = plane
        self._netlink = netlink

    def start(self) -> None:
        """Remove leftovers and set up what is there all the time; raises NodeError or PlaneError."""
        self._netlink.clean()

    @abstractmethod
    def apply(self, effect: Effect) -> None:
        """Carry out one effect about routes and tunnels; raises NodeError or PlaneError."""

    def carry_out(self, effects: Mapping[int, Effect]) -> Refusals:
        """Carry out effects about routes and tunnels, in order; returns which were refused, and why."""
        refusals: Refusals = {}
        for at, effect in effects.items():
            try:
                self.apply(effect)
            except (NodeError, PlaneError) as error:
                refusals[at] = error
        return refusals

    def outgoing(self, datagram: Datagram) -> Datagram:
        """`datagram`, with the interface left to routing where that knows better."""
        return datagram

    @abstractmethod
    def stop(self) -> None:
        """Remove all that was set up."""


def tunnel_mtu(link: int, encapsulation: Encapsulation) -> int:
    """The MTU of a tunnel whose outer packets leave by a link of MTU `link`."""
    return min(MTU, link - OVERHEAD[encapsulation])
