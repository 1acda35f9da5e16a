"""The home agent's routes, proxy ARP and tunnels (RFC 5944 §4.2.3, §4.6)."""

from __future__ import annotations

import shutil
from ipaddress import IPv4Address, IPv4Network

from testbed.mobileip.core.api import ClearBinding, Effect, ProxyArp, SetBinding, TunnelDatagram
from testbed.mobileip.core.parameters import HomeAgentConfig
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.io.role import Role
from testbed.mobileip.io.udp import keepalives
from testbed.mobileip.tunnel.api import DataPlane, Tunnel


class HomeAgentRole(Role):
    """A host route into the tunnel and a proxy ARP entry for each mobile node that is away."""

    def __init__(self, config: HomeAgentConfig, netlink: Netlink, plane: DataPlane) -> None:
        super().__init__(netlink, plane)
        self.watched = self.announces = config.home_interface
        if config.home_interface is not None and config.advertising is not None:
            self.listens = (config.home_interface,)
        self.hears = keepalives(config.address)
        self._config = config
        self._away: set[IPv4Address] = set()
        self.proxied: set[IPv4Address] = set()
        """For whom ARP is answered."""

    def start(self) -> None:
        """Prepare the home link too."""
        super().start()
        interface = self._config.home_interface
        if interface is None:
            # Nobody is on a virtual home link: what is for no binding must not go back to where it came from.
            self._netlink.set_unreachable(self._config.home_prefix)
            return
        answer_at_once(interface)
        ours, pool = {association.peer for association in self._config.mobile_nodes}, self._config.pool
        for address in proxies(interface):
            if address not in ours and not any(address in each for each in pool):
                continue
            self._netlink.delete_proxy(interface, address)

    def apply(self, effect: Effect) -> None:
        """Carry out SetBinding, ClearBinding, TunnelDatagram and ProxyArp."""
        if isinstance(effect, SetBinding):
            tunnel = Tunnel(effect.home_address, self._config.address, effect.ends)
            device = self.plane.set(tunnel)
            self._netlink.set_route(_host(effect.home_address), device)
            self.plane.settled(effect.home_address)
            self._away.add(effect.home_address)
        elif isinstance(effect, ClearBinding):
            self._clear(effect.home_address)
        elif isinstance(effect, TunnelDatagram):
            self.plane.send(effect.home_address, effect.care_of_addresses, effect.datagram)
        elif isinstance(effect, ProxyArp) and self._config.home_interface is not None:
            if effect.enabled:
                self._netlink.add_proxy(self._config.home_interface, effect.home_address)
                self.proxied.add(effect.home_address)
            else:
                self._netlink.delete_proxy(self._config.home_interface, effect.home_address)
                self.proxied.discard(effect.home_address)

    def _clear(self, home_address: IPv4Address) -> None:
        self._netlink.delete_route(_host(home_address))
        self.plane.remove(home_address)
        self._away.discard(home_address)

    def stop(self) -> None:
        """Leave the home link to its hosts again."""
        for home_address in list(self._away):
            self._clear(home_address)
        for home_address in list(self.proxied):
            self.apply(ProxyArp(home_address, False))
        if self._config.home_interface is None:
            self._netlink.delete_route(self._config.home_prefix)


def _host(address: IPv4Address) -> IPv4Network:
    return IPv4Network(address)


def _ip(*arguments: str) -> str:
    """Run `ip`, for the two things that netlink libraries do not know; at the start only."""
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
