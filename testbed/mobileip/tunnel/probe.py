"""Picks the data plane this node can have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.mobileip.tunnel import kernel
from testbed.mobileip.tunnel.api import DEVICES, MTU, DataPlane, Side
from testbed.mobileip.tunnel.mixed import MixedPlane
from testbed.mobileip.tunnel.tun import TunPlane

if TYPE_CHECKING:
    from testbed.mobileip.io.netlink import Netlink
    from testbed.mobileip.io.steering import Share


def probe(
    side: Side,
    netlink: Netlink,
    devices: str = DEVICES,
    *,
    ipsec_here: bool = False,
    merges_segments: bool = False,
    share: Share | None = None,
) -> DataPlane:
    """Kernel tunnels where they can be made, else the process on a TUN device; raises PlaneError if neither.

    With kernel tunnels the process runs for what these cannot do, from the first such tunnel on. The names of
    all devices begin with `devices`. What `ipsec_here` is, KernelPlane says, and TunPlane what
    `merges_segments` is.

    A process with a `share` of the mobile nodes has no kernel tunnels: there is one for each two ends, and a
    foreign agent has mobile nodes of several processes.
    """

    def start() -> TunPlane:
        plane = TunPlane(side, netlink, devices, merges_segments=merges_segments, share=share)
        netlink.set_link(plane.anchor, up=True, mtu=MTU)
        return plane

    if share is None and (encapsulations := kernel.available(netlink, devices)):
        tunnels = kernel.KernelPlane(
            side,
            netlink,
            encapsulations,
            devices=devices,
            ipsec_ends=netlink.ipsec_ends(),
            ipsec_here=ipsec_here,
            filters=side is Side.VISITED or kernel.filters(netlink, devices),
        )
        return MixedPlane(tunnels, start)
    netlink.delete_link(f"{devices}0")  # a kernel tunnel that a killed predecessor left under our name
    return start()
