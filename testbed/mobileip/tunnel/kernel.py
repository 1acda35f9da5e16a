"""The data plane of kernels with tunnel devices: one for each pair of tunnel ends and encapsulation.

The device of a pair takes only what its remote end sent. The other half of the check is the inner address. On
the home side the kernel's reverse path filter checks it: what comes out of the device is accepted only from a
mobile node whose packets are routed into it. Where these may be routed elsewhere than into a device that the
mobile node may use, a filter of the device names the mobile nodes; it sees what is to this node itself, too.
On the visited side there is a rule for each mobile node: what comes out is forwarded to those that are there.
The kernel compares every packet with every rule: thousands would be slow. A device cannot send copies, so a
mobile node has one care-of address here.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path

from testbed.mobileip.io.changes import MAIN, Rule
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.netlink import Netlink
from testbed.mobileip.tunnel.api import DEVICES, PlaneError, Side, Tunnel
from testbed.mobileip.wire.encapsulation import OVERHEAD, Encapsulation

ETH_P_IP = 0x0800
KINDS = {Encapsulation.IP_IN_IP: "ipip", Encapsulation.GRE: "gre"}
"""The devices that Linux may have."""
ETHERNET = 1500
ANY = IPv4Address(0)
ALLOW, REFUSE = 150, 160
"""Preferences of the rules for what comes out of a tunnel."""
STATISTICS = {
    "encapsulated": "tx_packets",
    "encapsulated-bytes": "tx_bytes",
    "decapsulated": "rx_packets",
    "decapsulated-bytes": "rx_bytes",
    "failed": "tx_errors",
}

LINKS = Path("/sys/class/net")
"""A folder for each link, with its counters."""


def available(netlink: Netlink, devices: str = DEVICES) -> frozenset[Encapsulation]:
    """Which devices this kernel has and lets us make, by making them; none without IP in IP.

    They stay down: IPv6 would send on them, and this node would answer itself with Port Unreachable.
    """
    name = f"{devices}probe0"
    ends = IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2")
    found = set()
    for encapsulation, kind in KINDS.items():
        with suppress(NodeError):
            netlink.add_tunnel(kind, name, *ends, ETHERNET - OVERHEAD[encapsulation])
            netlink.delete_link(name)
            found.add(encapsulation)
    return frozenset(found) if Encapsulation.IP_IN_IP in found else frozenset()


def remove_devices(netlink: Netlink, devices: str, statistics: Path = LINKS) -> None:
    """Remove the tunnels of a killed predecessor: two devices with the same ends there cannot be."""
    for left in statistics.glob(f"{devices}[0-9]*"):
        netlink.delete_link(left.name)


def silence(netlink: Netlink, devices: str = DEVICES) -> None:
    """Let this node's kernel be silent about tunnelled packets that a process takes, or nobody.

    Where the module ipip is loaded, for whichever node, every node's kernel answers such a packet with Port
    Unreachable, although a raw socket has it; and the sender's kernel then reports to its user that the
    host is unreachable. With the module ip_gre it does the same for GRE; that senders ignore.
    """
    answer_again(netlink, devices)  # a killed predecessor's
    with suppress(NodeError):  # a kernel without the module does not answer; or another daemon has done it
        netlink.add_ipip_sink(f"{devices}sink0")


def answer_again(netlink: Netlink, devices: str = DEVICES) -> None:
    """Undo `silence`."""
    netlink.delete_link(f"{devices}sink0")


def filters(netlink: Netlink, devices: str = DEVICES) -> bool:
    """Whether this kernel can filter what comes out of a device by its source, by trying it on one."""
    name, address = f"{devices}probe0", IPv4Address("127.0.0.1")
    try:
        netlink.add_tunnel("ipip", name, address, IPv4Address("127.0.0.2"), ETHERNET)
        netlink.accept_sources(name, [address])
    except NodeError:
        return False
    finally:
        netlink.delete_link(name)
    return True


_Key = tuple[IPv4Address, IPv4Address, Encapsulation]
"""Local and remote end."""


class _Check(Enum):
    """What decides about the inner address of what comes out of a device."""

    REVERSE_PATH = "its route back"
    FILTER = "a filter of the device"
    RULES = "a rule for each mobile node"


@dataclass
class _Device:
    number: int
    name: str
    check: _Check
    mobiles: set[IPv4Address] = field(default_factory=set)

    @property
    def refuse(self) -> Rule:
        """What no other rule allows; beside rules for each mobile node."""
        return Rule(REFUSE, None, interface=self.name)

    @property
    def allow(self) -> Rule:
        """What has been accepted; before IPsec's rules (220)."""
        return Rule(ALLOW, MAIN, interface=self.name)

    @property
    def rule(self) -> Rule:
        """What is there as long as the device."""
        return self.refuse if self.check is _Check.RULES else self.allow


def _allow(mobile: IPv4Address, device: _Device) -> Rule:
    """On the visited side: what is to a mobile node is forwarded."""
    return Rule(ALLOW, MAIN, destination=mobile, interface=device.name)


class KernelPlane:
    """Tunnels of the kernel in the encapsulations it has, made through `netlink`."""

    backend = "kernel"
    only_device = None
    anchor = "lo"  # no device is there all the time; an address on the loopback device is as local as any

    def __init__(
        self,
        side: Side,
        netlink: Netlink,
        encapsulations: frozenset[Encapsulation],
        statistics: Path = LINKS,
        devices: str = DEVICES,
        ipsec_ends: Collection[tuple[IPv4Address, IPv4Address]] = (),
        ipsec_here: bool = False,
        filters: bool = True,
    ) -> None:
        """`ipsec_ends` are those of the virtual tunnel interfaces of the kernel's IPsec, ours and theirs.

        `ipsec_here`: IPsec in this node may route packets for a mobile node elsewhere than into its tunnel.
        A gateway does so once the home address is an address behind IPsec, as with IPsec inside MIPv4. The
        reverse path filter would then drop IKE and ESP that come out of the tunnel. `filters`: whether this
        kernel has filters of devices.
        """
        self._side = side
        self._check = _Check.FILTER if ipsec_here else _Check.REVERSE_PATH
        if side is Side.VISITED:
            self._check = _Check.RULES
        self._filters = filters
        self._netlink = netlink
        self._encapsulations = encapsulations
        self._ipsec_ends = ipsec_ends
        self._statistics = statistics
        self._names = devices
        self._devices: dict[_Key, _Device] = {}
        self._numbers = count(1)  # 0 is a TUN
        self._free: list[int] = []
        """Numbers below those that are to come."""
        self._tunnels: dict[IPv4Address, tuple[_Key, ...]] = {}
        self._replaced: dict[IPv4Address, set[_Key]] = {}
        self._past: dict[str, int] = dict.fromkeys(STATISTICS, 0)
        remove_devices(netlink, devices, statistics)
        silence(netlink, devices)

    @property
    def ends(self) -> frozenset[IPv4Address]:
        """The other ends of the tunnels."""
        return frozenset(remote for _, remote, _ in self._devices)

    def can(self, tunnel: Tunnel) -> bool:
        """Whether devices can be this tunnel: they send no copies, and forward nothing from one to another.

        Where the reverse path cannot decide who may use a device, there has to be a filter.
        A tunnel between two daemons of this node has the same ends for both, and two such devices cannot be.
        Nor can a device be where IPsec in the kernel takes what is for it.
        """
        if len(tunnel.ends) != 1 or tunnel.ends[0].address == tunnel.local or tunnel.delivery is not None:
            return False
        ends = (*tunnel.ends, *(former.home_agent for former in tunnel.former))
        if not all(self._encapsulations.issuperset(end.encapsulations) for end in ends):
            return False
        several = any(len(end.encapsulations) > 1 for end in ends)
        if not self._filters and (self._check is _Check.FILTER or (self._side is Side.HOME and several)):
            return False
        pairs = [(tunnel.local, end.address) for end in tunnel.ends]
        pairs += [(former.care_of_address, former.home_agent.address) for former in tunnel.former]
        return not any(self._taken_by_ipsec(*pair) for pair in pairs)

    def _taken_by_ipsec(self, local: IPv4Address, remote: IPv4Address) -> bool:
        """Whether a virtual tunnel interface of IPsec takes what comes from `remote` in IP in IP.

        Linux offers it to them before tunnel devices (ip_vti.c), and they drop what is in no SA. A raw socket
        has it all the same. One for any ends, the kernel's own, takes nothing.
        """
        return any(
            {ours, theirs} != {ANY} and ours in (ANY, local) and theirs in (ANY, remote)
            for ours, theirs in self._ipsec_ends
        )

    def set(self, tunnel: Tunnel) -> str:
        """Set up or replace a tunnel that the kernel `can`; returns its device. Raises PlaneError."""
        mobile = tunnel.mobile
        pairs = [(tunnel.local, tunnel.ends[0])]
        pairs += [(former.care_of_address, former.home_agent) for former in tunnel.former]
        keys = tuple((local, end.address, each) for local, end in pairs for each in end.encapsulations)
        before = self._tunnels.get(mobile, ())
        if keys != before or not self._devices.keys() >= {*keys}:  # or they could not all be made before
            self._tunnels[mobile] = keys
            self._replaced[mobile] = ({*before} | self._replaced.get(mobile, set())) - {*keys}
            try:
                for key in keys:
                    self._admit(mobile, self._devices.get(key) or self._open(key), key == keys[0])
            except NodeError as error:
                raise PlaneError(str(error)) from error
        return self._devices[keys[0]].name

    def set_all(self, tunnels: Sequence[Tunnel]) -> list[str | PlaneError]:
        """Set up or replace tunnels; returns for each its device, or why there is none."""
        results: list[str | PlaneError] = []
        for tunnel in tunnels:
            try:
                results.append(self.set(tunnel))
            except PlaneError as error:
                results.append(error)
        return results

    def _open(self, key: _Key) -> _Device:
        local, remote, encapsulation = key
        number = heappop(self._free) if self._free else next(self._numbers)
        device = _Device(number, f"{self._names}{number}", self._check)
        try:
            mtu = ETHERNET - OVERHEAD[encapsulation]
            self._netlink.add_tunnel(KINDS[encapsulation], device.name, local, remote, mtu)
            self._netlink.filter_reverse_path(device.name, device.check is _Check.REVERSE_PATH)
            if device.check is _Check.FILTER:
                self._netlink.accept_sources(device.name, ())
            self._netlink.add_rule(device.rule)
            self._netlink.set_link(device.name, up=True)
        except NodeError:
            self._netlink.delete_link(device.name)
            heappush(self._free, number)
            raise
        self._devices[key] = device
        return device

    def _admit(self, mobile: IPv4Address, device: _Device, routed: bool) -> None:
        """Let a mobile node use a device; `routed`: packets for it are routed into this very device."""
        if not routed and device.check is _Check.REVERSE_PATH:
            self._netlink.accept_sources(device.name, device.mobiles)
            self._netlink.filter_reverse_path(device.name, False)
            device.check = _Check.FILTER
        if device.check is _Check.FILTER:
            self._netlink.admit_source(device.name, mobile)
        elif device.check is _Check.RULES:
            self._netlink.add_rule(_allow(mobile, device))
        device.mobiles.add(mobile)

    def settled(self, mobile: IPv4Address) -> None:
        """Take down the devices that were in use before the last `set`."""
        for key in self._replaced.pop(mobile, ()):
            self._release(mobile, key)

    def send(self, mobile: IPv4Address, remotes: Collection[IPv4Address], datagram: bytes) -> None:
        """Send `datagram` into the tunnel of `mobile`, if it leads to one of `remotes`; raises PlaneError."""
        keys = self._tunnels.get(mobile)
        if keys is None or keys[0][1] not in remotes:
            return
        name = self._devices[keys[0]].name
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as sock:
            try:
                sock.sendto(datagram, (name, ETH_P_IP))
            except OSError as error:
                raise PlaneError(f"{name}: {error.strerror}") from error

    def remove(self, mobile: IPv4Address) -> None:
        """Take down the tunnel of `mobile`, and its devices with the last mobile node."""
        self.settled(mobile)
        for key in self._tunnels.pop(mobile, ()):
            self._release(mobile, key)

    def _release(self, mobile: IPv4Address, key: _Key) -> None:
        device = self._devices.get(key)
        if device is None:  # it could not be made
            return
        if device.check is _Check.FILTER:
            self._netlink.expel_source(device.name, mobile)
        elif device.check is _Check.RULES:
            self._netlink.delete_rule(_allow(mobile, device))
        device.mobiles.discard(mobile)
        if not device.mobiles:
            for counter, value in self._read(device).items():
                self._past[counter] += value
            self._netlink.delete_rule(device.rule)
            self._netlink.delete_link(device.name)
            del self._devices[key]
            heappush(self._free, device.number)

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

    def discarded(self) -> list[Mapping[str, str | int]]:
        """Nothing: devices only count."""
        return []

    def check(self) -> bool:
        """Raises PlaneError when somebody has deleted a device."""
        there = {each.name for each in self._statistics.iterdir()}
        for device in self._devices.values():
            if device.name not in there:
                raise PlaneError(f"the device {device.name} has been deleted")
        return False

    def close(self) -> None:
        """Take every tunnel down."""
        for mobile in list(self._tunnels):
            self.remove(mobile)
        answer_again(self._netlink, self._names)
