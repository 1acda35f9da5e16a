"""The data plane of kernels that have IP-in-IP devices: one device for each pair of tunnel ends.

The device of a pair takes only what its remote end sent. The other half of the check, the inner address, is a
pair of rules: what comes out of the device is forwarded only from (home side) or to (visited side) a mobile
node that is there. A device cannot send copies, so a mobile node has one care-of address here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.netlink import MAIN, Netlink, Rule
from testbed.mobileip.tunnel.api import MTU, PlaneError, Side, Tunnel

PROBE, SINK = "mipprobe0", "mipsink0"
ALLOW, REFUSE = 150, 160
"""Preferences of the rules for what comes out of a tunnel."""
STATISTICS = {
    "encapsulated": "tx_packets",
    "encapsulated-bytes": "tx_bytes",
    "decapsulated": "rx_packets",
    "decapsulated-bytes": "rx_bytes",
    "failed": "tx_errors",
}


def available(netlink: Netlink) -> bool:
    """Whether this kernel has IP-in-IP devices, and lets us make them: by making one."""
    try:
        netlink.add_ipip(PROBE, IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2"), MTU)
    except NodeError:
        return False
    netlink.delete_link(PROBE)
    return True


def silence(netlink: Netlink) -> None:
    """Let this node's kernel be silent about tunnelled packets that a process takes.

    Where the module ipip is loaded, for whichever node, every node's kernel answers such a packet with Port
    Unreachable, although a raw socket has it; and the sender's kernel then reports to its user that the
    host is unreachable.
    """
    netlink.delete_link(SINK)  # a killed predecessor's
    with suppress(NodeError):  # a kernel without the module does not answer
        netlink.add_ipip_sink(SINK)


def answer_again(netlink: Netlink) -> None:
    """Undo `silence`."""
    netlink.delete_link(SINK)


@dataclass
class _Device:
    name: str
    mobiles: set[IPv4Address] = field(default_factory=set)


class KernelPlane:
    """Tunnels of the kernel, made through `netlink`."""

    backend = "kernel"
    anchor = "lo"  # no device is there all the time; an address on the loopback device is as local as any

    def __init__(self, side: Side, netlink: Netlink, statistics: Path = Path("/sys/class/net")) -> None:
        self._side = side
        self._netlink = netlink
        self._statistics = statistics
        self._devices: dict[tuple[IPv4Address, IPv4Address], _Device] = {}
        self._tunnels: dict[IPv4Address, tuple[IPv4Address, IPv4Address]] = {}
        self._past: dict[str, int] = dict.fromkeys(STATISTICS, 0)
        # A killed predecessor's: two devices with the same ends there cannot be.
        for left in statistics.glob("mip[0-9]*"):
            netlink.delete_link(left.name)

    def _allow(self, mobile: IPv4Address, device: _Device) -> Rule:
        source, destination = (mobile, None) if self._side is Side.HOME else (None, mobile)
        return Rule(ALLOW, MAIN, source, destination, device.name)

    def set(self, tunnel: Tunnel) -> str:
        """Set up or replace the tunnel of `tunnel.mobile`; returns its device. Raises PlaneError."""
        if len(tunnel.ends) != 1:
            raise PlaneError(f"kernel tunnels cannot send copies to {len(tunnel.ends)} care-of addresses")
        ends = (tunnel.local, tunnel.ends[0].address)
        if self._tunnels.get(tunnel.mobile) != ends:
            self.remove(tunnel.mobile)
            try:
                device = self._devices.get(ends) or self._open(ends)
                self._netlink.add_rule(self._allow(tunnel.mobile, device))
            except NodeError as error:
                raise PlaneError(str(error)) from error
            device.mobiles.add(tunnel.mobile)
            self._tunnels[tunnel.mobile] = ends
        return self._devices[ends].name

    def _open(self, ends: tuple[IPv4Address, IPv4Address]) -> _Device:
        taken = {device.name for device in self._devices.values()}
        name = next(f"mip{n}" for n in range(len(taken) + 1) if f"mip{n}" not in taken)
        self._netlink.add_ipip(name, *ends, MTU)
        self._netlink.add_rule(Rule(REFUSE, None, interface=name))
        self._devices[ends] = _Device(name)
        return self._devices[ends]

    def remove(self, mobile: IPv4Address) -> None:
        """Take down the tunnel of `mobile`, and its device with the last mobile node."""
        ends = self._tunnels.pop(mobile, None)
        if ends is None:
            return
        device = self._devices[ends]
        self._netlink.delete_rule(self._allow(mobile, device))
        device.mobiles.discard(mobile)
        if not device.mobiles:
            for counter, value in self._read(device).items():
                self._past[counter] += value
            self._netlink.delete_rule(Rule(REFUSE, None, interface=device.name))
            self._netlink.delete_link(device.name)
            del self._devices[ends]

    def _read(self, device: _Device) -> dict[str, int]:
        folder = self._statistics / device.name / "statistics"
        try:
            return {counter: int((folder / name).read_text()) for counter, name in STATISTICS.items()}
        except FileNotFoundError:  # somebody has deleted the device
            return {}

    def counters(self) -> Mapping[str, int]:
        """What the devices counted, and those that are gone."""
        total = dict(self._past)
        for device in self._devices.values():
            for counter, value in self._read(device).items():
                total[counter] += value
        return total

    def check(self) -> bool:
        """Raises PlaneError when somebody has deleted a device."""
        for device in self._devices.values():
            if not (self._statistics / device.name).exists():
                raise PlaneError(f"the device {device.name} has been deleted")
        return False

    def close(self) -> None:
        """Take every tunnel down."""
        for mobile in list(self._tunnels):
            self.remove(mobile)
