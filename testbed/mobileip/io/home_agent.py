"""The home agent's routes, proxy ARP and tunnels (RFC 5944 §4.2.3, §4.6)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv4Address

from testbed.mobileip.core.api import Effect
from testbed.mobileip.core.home.config import HomeAgentConfig
from testbed.mobileip.core.home.effects import ClearBinding, ProxyArp, SetBinding, SetGroups, TunnelDatagram
from testbed.mobileip.io.changes import Batch
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.io.role import Refusals, Role
from testbed.mobileip.io.steering import Share
from testbed.mobileip.tunnel.api import DataPlane, PlaneError, Tunnel, device_of

_BINDING = SetBinding, ClearBinding


class HomeAgentRole(Role):
    """For each mobile node that is away a host route into its tunnel, and a proxy ARP entry on the home link.

    A virtual home network whose tunnels all have one device is routed into that as a whole.
    """

    def __init__(
        self, config: HomeAgentConfig, netlink: Netlink, plane: DataPlane, share: Share | None = None
    ) -> None:
        super().__init__(netlink, plane)
        self.share = share
        self.announces = config.home_interface
        self.watched = (config.home_interface,) if config.home_interface is not None else ()
        if config.home_interface is not None and config.advertising is not None:
            self.listens = (config.home_interface,)
        self._config = config
        self._away: dict[IPv4Address, str] = {}  # with the device that its route leads to
        self._whole = plane.only_device if config.home_interface is None and share is None else None
        self.proxied: set[IPv4Address] = set()
        """For whom ARP is answered."""
        self.join: Callable[[Collection[IPv4Address]], None] | None = None
        """Joins groups on the home link, where there is one."""

    def start(self) -> None:
        """Prepare the home link too, but for what processes that share it have in common."""
        interface = self._config.home_interface
        if self.share is None:
            prepare(self._config, self._netlink)
        if interface is None:
            if self._whole is not None:
                self._netlink.set_route(self._config.home_prefix, self._whole)
            return
        ours, pool = {association.peer for association in self._config.mobile_nodes}, self._config.pool
        for address in proxies(interface):
            if address not in ours and not any(address in each for each in pool):
                continue
            if self.share is None or self.share.serves(address):
                self._netlink.delete_proxy(interface, address)

    def apply(self, effect: Effect) -> None:
        """Carry out SetBinding, ClearBinding, TunnelDatagram, SetGroups and ProxyArp."""
        for error in self.carry_out({0: effect}).values():
            raise error

    def carry_out(self, effects: Mapping[int, Effect]) -> Refusals:
        """Carry out effects, those about different mobile nodes together."""
        refusals: Refusals = {}
        together: dict[int, Effect] = {}
        changed: set[IPv4Address] = set()
        for at, effect in effects.items():
            if isinstance(effect, TunnelDatagram) or (
                isinstance(effect, _BINDING) and effect.home_address in changed
            ):
                self._change(together, refusals)
                together, changed = {}, set()
            if isinstance(effect, TunnelDatagram | SetGroups):
                self._do(at, effect, refusals)
                continue
            together[at] = effect
            if isinstance(effect, _BINDING):
                changed.add(effect.home_address)
        self._change(together, refusals)
        return refusals

    def _do(self, at: int, effect: TunnelDatagram | SetGroups, refusals: Refusals) -> None:
        try:
            if isinstance(effect, TunnelDatagram):
                self.plane.send(effect.home_address, effect.care_of_addresses, effect.datagram)
            elif self.join is not None:
                self.join(effect.groups)
        except (NodeError, PlaneError) as error:
            refusals[at] = error

    def _change(self, effects: Mapping[int, Effect], refusals: Refusals) -> None:
        """Have the new tunnels made, then change all routes and proxies, then take down the old tunnels."""
        bindings = {at: effect for at, effect in effects.items() if isinstance(effect, SetBinding)}
        tunnels = [Tunnel(each.home_address, self._config.address, each.ends) for each in bindings.values()]
        devices = dict(zip(bindings, self.plane.set_all(tunnels), strict=True))
        if self._whole is None:
            self._reroute(effects, devices, refusals)
        for at, effect in effects.items():
            if at not in refusals:
                try:
                    self._settle(effect, devices.get(at))
                except PlaneError as error:
                    refusals[at] = error
        for at in refusals.keys() & bindings.keys():
            self._away.pop(bindings[at].home_address, None)  # where its route leads is not known

    def _reroute(
        self, effects: Mapping[int, Effect], devices: Mapping[int, str | PlaneError], refusals: Refusals
    ) -> None:
        """Change routes and proxies, in one system call."""
        batch = self._netlink.batch()
        asked: list[int] = []
        for at, effect in effects.items():
            try:
                self._collect(effect, devices.get(at), batch)
            except (NodeError, PlaneError) as error:
                refusals[at] = error
            else:
                asked += [at] * (len(batch) - len(asked))
        for at, refusal in zip(asked, batch.commit(), strict=True):
            if refusal is not None:
                refusals[at] = refusal

    def _collect(self, effect: Effect, device: str | PlaneError | None, batch: Batch) -> None:
        """Add to `batch` what changes a route or a proxy, where anything does."""
        if isinstance(effect, SetBinding) and device is not None:
            if self._away.get(effect.home_address) != device_of(device):
                batch.set_route(effect.home_address, device_of(device))
        elif isinstance(effect, ClearBinding):
            batch.delete_route(effect.home_address)
        elif isinstance(effect, ProxyArp) and self._config.home_interface is not None:
            change = batch.add_proxy if effect.enabled else batch.delete_proxy
            change(self._config.home_interface, effect.home_address)

    def _settle(self, effect: Effect, device: str | PlaneError | None) -> None:
        """Follow a change that the kernel has made."""
        if isinstance(effect, SetBinding) and device is not None:
            self.plane.settled(effect.home_address)
            self._away[effect.home_address] = device_of(device)
        elif isinstance(effect, ClearBinding):
            self._away.pop(effect.home_address, None)
            self.plane.remove(effect.home_address)
        elif isinstance(effect, ProxyArp) and self._config.home_interface is not None:
            (self.proxied.add if effect.enabled else self.proxied.discard)(effect.home_address)

    def is_from(self, datagram: bytes, device: str) -> bool:
        """Whether a datagram that has come out of a device may have its source (RFC 3024 §4.3.2)."""
        return self._away.get(IPv4Address(datagram[12:16])) == device

    def relays(self, source: IPv4Address) -> bool:
        """Whether another process of this daemon has put on the home link what has this source."""
        others = self.share is not None and not self.share.serves(source)
        ours = any(source == each.ip for each in self._config.own_addresses)
        return others and source in self._config.home_prefix and not ours

    def stop(self) -> None:
        """Leave the home link to its hosts again."""
        effects: list[Effect] = [ClearBinding(home_address) for home_address in self._away]
        effects += [ProxyArp(home_address, False) for home_address in self.proxied]
        self.carry_out(dict(enumerate(effects)))
        if self._whole is not None:
            self._netlink.delete_route(self._config.home_prefix)
        if self.share is None:
            release(self._config, self._netlink)


def prepare(config: HomeAgentConfig, netlink: Netlink) -> None:
    """Remove what a killed predecessor left, and prepare what all mobile nodes need; raises NodeError."""
    netlink.clean()
    if config.home_interface is None:
        # Nobody is on a virtual home link: what is for no binding must not go back to where it came from.
        netlink.set_unreachable(config.home_prefix)
    else:
        answer_at_once(config.home_interface)


def release(config: HomeAgentConfig, netlink: Netlink) -> None:
    """Undo `prepare`."""
    if config.home_interface is None:
        netlink.delete_route(config.home_prefix)


def _ip(*arguments: str) -> str:
    """Run `ip`, for the two things that netlink libraries do not know; at the start only."""
    import shutil
    import subprocess

    program = shutil.which("ip") or "/sbin/ip"
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise NodeError(f"ip {' '.join(arguments)}: {getattr(error, 'stderr', '') or error}") from error
    return done.stdout


def answer_at_once(interface: str) -> None:
    """Answer ARP by proxy without the random delay of up to 0.8 s that is the kernel's default."""
    _ip("ntable", "change", "name", "arp_cache", "dev", interface, "proxy_delay", "0")


def proxies(interface: str) -> set[IPv4Address]:
    """For whom ARP is answered by proxy on a link."""
    lines = _ip("-4", "neigh", "show", "proxy", "dev", interface).splitlines()
    return {IPv4Address(line.split()[0]) for line in lines if line}
