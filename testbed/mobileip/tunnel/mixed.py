"""Kernel tunnels for all that the kernel can, and the process on a TUN device for the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import IPv4Address

from testbed.mobileip.tunnel.api import DataPlane, PlaneError, Tunnel, ends_of
from testbed.mobileip.tunnel.kernel import KernelPlane
from testbed.mobileip.tunnel.tun import TunPlane

MOST = 200
"""Tunnels up to which the process is spared the packets of others."""


class MixedPlane:
    """Chooses for each tunnel anew; `start` makes the data plane on a TUN device when it is first needed."""

    anchor, only_device = KernelPlane.anchor, KernelPlane.only_device

    def __init__(self, kernel: KernelPlane, start: Callable[[], TunPlane]) -> None:
        self._kernel = kernel
        self._start = start
        self._tun: TunPlane | None = None
        self._places: dict[IPv4Address, DataPlane] = {}
        self._left: dict[IPv4Address, DataPlane] = {}

    @property
    def backend(self) -> str:
        """`kernel`, and `kernel+tun` once the process has been needed."""
        return self._kernel.backend if self._tun is None else f"{self._kernel.backend}+{self._tun.backend}"

    @property
    def _planes(self) -> list[DataPlane]:
        return [self._kernel, *([self._tun] if self._tun is not None else [])]

    @property
    def _kernel_ends(self) -> frozenset[IPv4Address]:
        """Whose packets the process need not see; with very many it drops them itself."""
        return self._kernel.ends if len(self._places) <= MOST else frozenset()

    def set(self, tunnel: Tunnel) -> str:
        """Set up or replace a tunnel where it can be; returns its device. Raises PlaneError."""
        plane = self._kernel if self._kernel.can(tunnel) else self._process([tunnel])
        device = plane.set(tunnel)
        self._place(tunnel.mobile, plane)
        return device

    def set_all(self, tunnels: Sequence[Tunnel]) -> list[str | PlaneError]:
        """Set up or replace tunnels, each where it can be; returns its device, or why it has none."""
        planes: dict[bool, list[Tunnel]] = {True: [], False: []}
        for tunnel in tunnels:
            planes[self._kernel.can(tunnel)].append(tunnel)
        devices = self._set(self._kernel, planes[True])
        if by_process := planes[False]:
            try:
                devices |= self._set(self._process(by_process), by_process)
            except PlaneError as error:
                devices |= dict.fromkeys((tunnel.mobile for tunnel in by_process), error)
        return [devices[tunnel.mobile] for tunnel in tunnels]

    def _process(self, tunnels: Sequence[Tunnel]) -> TunPlane:
        """The data plane on a TUN device, to which comes what the ends of `tunnels` send."""
        if self._tun is None:
            self._tun = self._start()
        self._tun.leave(self._kernel_ends.difference(*map(ends_of, tunnels)))
        return self._tun

    def _set(self, plane: DataPlane, tunnels: Sequence[Tunnel]) -> dict[IPv4Address, str | PlaneError]:
        devices = {}
        for tunnel, result in zip(tunnels, plane.set_all(tunnels), strict=True):
            devices[tunnel.mobile] = result
            if isinstance(result, str):
                self._place(tunnel.mobile, plane)
        return devices

    def _place(self, mobile: IPv4Address, plane: DataPlane) -> None:
        before = self._places.get(mobile)
        self._places[mobile] = plane
        if before is not None and before is not plane:
            self._left[mobile] = before

    def settled(self, mobile: IPv4Address) -> None:
        """Take down what the last `set` replaced."""
        for plane in self._planes:
            plane.settled(mobile)
        if (left := self._left.pop(mobile, None)) is not None:
            left.remove(mobile)
        self._divide()

    def send(self, mobile: IPv4Address, remotes: Collection[IPv4Address], datagram: bytes) -> None:
        """Send `datagram` into the tunnels of `mobile` to `remotes`; raises PlaneError."""
        if (plane := self._places.get(mobile)) is not None:
            plane.send(mobile, remotes, datagram)

    def remove(self, mobile: IPv4Address) -> None:
        """Take down the tunnel of `mobile`."""
        self._left.pop(mobile, None)
        self._places.pop(mobile, None)
        for plane in self._planes:
            plane.remove(mobile)
        self._divide()

    def _divide(self) -> None:
        if self._tun is not None:
            self._tun.leave(self._kernel_ends)

    def counters(self) -> Mapping[str, int]:
        """The sums over both."""
        total: Counter[str] = Counter()
        for plane in self._planes:
            total.update(plane.counters())
        return total

    def discarded(self) -> list[Mapping[str, str | int]]:
        """What either has discarded."""
        return [each for plane in self._planes for each in plane.discarded()]

    def check(self) -> bool:
        """See that both work; raises PlaneError when one does not."""
        mended = [plane.check() for plane in self._planes]
        return any(mended)

    def close(self) -> None:
        """Take everything down."""
        for plane in self._planes:
            plane.close()
