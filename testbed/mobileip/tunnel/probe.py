"""Picks the data plane this node can have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.mobileip.tunnel import kernel
from testbed.mobileip.tunnel.api import DataPlane, Side
from testbed.mobileip.tunnel.tun import TunPlane

if TYPE_CHECKING:
    from testbed.mobileip.io.netlink import Netlink


def probe(side: Side, netlink: Netlink, *, tun: bool) -> DataPlane:
    """Kernel tunnels where they can be made and do what is needed, else the process on a TUN device.

    `tun`: something is needed that kernel tunnels do not do, as several care-of addresses of a mobile node at
    once, or tunnels in UDP. Raises PlaneError if neither works.
    """
    if not tun and kernel.available(netlink):
        return kernel.KernelPlane(side, netlink)
    netlink.delete_link("mip0")  # a kernel tunnel that a killed predecessor left under our name
    return TunPlane(side, netlink)
