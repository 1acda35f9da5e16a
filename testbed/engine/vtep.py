"""The wires between engines: one VXLAN (RFC 7348) for each network of a lab.

On each engine a container with the network of its host makes the devices, and nothing else: the engine's own
macvlan networks use them as parents. The alias of a device says whose it is, so that it is found again
whatever became of the container.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address
from typing import Any, Final

from testbed.engine import names
from testbed.engine.api import Engine, EngineError
from testbed.engine.done import Done, collect

PORT: Final = 4789
"""UDP, to be open both ways between the engines' hosts (RFC 7348 §5)."""
OVERHEAD: Final = 50
"""Octets that VXLAN adds to a packet: Ethernet inside, VXLAN, UDP, IPv4 (RFC 7348 §5)."""
MOST: Final = 1500
"""The MTU of links where the way between the engines has room for more."""
LIVE: Final = ("sleep", "infinity")
"""What the container runs: all else are commands in it."""

_FLOOD: Final = "00:00:00:00:00:00"  # in the forwarding table: where broadcasts and unknown addresses go
_VNI_OCTETS: Final = 3
_LAY: Final = """\
if [ "$(cat /sys/class/net/{device}/ifalias 2>/dev/null)" = {alias} ]; then ip link delete {device}; fi
ip link add {device} type vxlan id {vni} dstport {port}
ip link set {device} alias {alias}
ip link set {device} addrgenmode none 2>/dev/null || : no IPv6 here
{flood}
ip link set {device} mtu {mtu} up
"""
_CUT: Final = "if [ -e /sys/class/net/{device} ]; then ip link delete {device}; fi"
_HOST: Final = "cat /proc/sys/kernel/random/boot_id; readlink /proc/self/ns/net; ip -j -4 address show up"


def vni(network: str) -> int:
    """The VXLAN network identifier of a network, by its name in the engines."""
    return int.from_bytes(sha256(network.encode()).digest()[:_VNI_OCTETS])


def device(network: str) -> str:
    """The name of the device that carries a network."""
    return f"tb{vni(network):06x}"


@dataclass(frozen=True, slots=True)
class Host:
    """What an engine's host says of its network."""

    namespace: str
    """Which network namespace of which machine, since its last start."""
    addresses: Mapping[IPv4Address, int]
    """Its addresses that others may reach → the MTU of the interface."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one end of a way found out about the other."""

    address: IPv4Address | None  # where it is to be sent to
    ahead: float  # seconds: the other's clock against this one's, less the time that a frame takes


@dataclass(frozen=True, slots=True)
class Vtep:
    """The tunnel end point (VTEP) of a lab on one engine: what makes and removes its devices there."""

    name: str  # of the engine
    engine: Engine
    container: str

    def host(self) -> Host:
        """Ask for namespace and addresses. Raises `EngineError`."""
        boot, namespace, links = self._run(["sh", "-ec", _HOST]).text.split("\n", 2)
        addresses = {
            IPv4Address(one["local"]): int(link["mtu"])
            for link in json.loads(links)
            if link and not _is_bridge(link)  # what its filter leaves out iproute2 prints as {}
            for one in link["addr_info"]
            if one["scope"] == "global"
        }
        return Host(f"{boot} {namespace}", addresses)

    def reach(
        self, lab: str, network: str, peers: Mapping[str, Sequence[IPv4Address]], size: int
    ) -> dict[str, Heard]:
        """Exchange frames of `size` octets with the peers, by name, which do the same at this time.

        They cross a network that is there no longer than that. A peer that was not heard is left out. Raises
        `EngineError`.
        """
        asked = {
            "name": self.name,
            "device": device(network),
            "alias": _alias(lab, network),
            "vni": vni(network),
            "port": PORT,
            "size": size,
            "peers": {peer: list(map(str, addresses)) for peer, addresses in peers.items()},
        }
        found = json.loads(self._run(["python3", "-m", "testbed.node.reach", json.dumps(asked)]).text)
        return {
            peer: Heard(IPv4Address(one["address"]) if one["address"] else None, one["ahead"])
            for peer, one in found.items()
        }

    def lay(self, lab: str, network: str, mtu: int, peers: Iterable[IPv4Address]) -> str:
        """Make the device of a network, anew if it is there, and return its name. Raises `EngineError`."""
        name = device(network)
        flood = "\n".join(f"bridge fdb append {_FLOOD} dev {name} dst {address}" for address in peers)
        script = _LAY.format(
            device=name,
            alias=shlex.quote(_alias(lab, network)),
            mtu=mtu,
            vni=vni(network),
            port=PORT,
            flood=flood,
        )
        self._run(["sh", "-ec", script])
        return name

    def cut(self, networks: Iterable[str]) -> None:
        """Remove the devices of networks. One that is not there is fine. Raises `EngineError`."""
        script = "\n".join(_CUT.format(device=device(network)) for network in networks)
        self._run(["sh", "-ec", script])

    def laid(self, lab: str) -> set[str]:
        """The networks of a lab that have a device. Raises `EngineError`."""
        links = json.loads(self._run(["ip", "-j", "link", "show", "type", "vxlan"]).text or "[]")
        mine = _alias(lab, "")
        aliases = [str(link.get("ifalias", "")) for link in links]
        return {alias.removeprefix(mine) for alias in aliases if alias.startswith(mine)}

    def cut_all(self, lab: str) -> None:
        """Remove all devices of a lab. Raises `EngineError`."""
        self.cut(self.laid(lab))

    def _run(self, command: Sequence[str]) -> Done:
        with self.engine.execute(self.container, command) as session:
            done = collect(session)
        if done.code != 0:
            raise EngineError(f"engine {self.name}: {done.complaint}")
        return done


def _alias(lab: str, network: str) -> str:
    return f"{names.PREFIX} {lab} {network}"


def _is_bridge(link: Mapping[str, Any]) -> bool:
    """Whether an interface is one of the engine's own: each engine has such addresses."""
    return str(link["ifname"]).startswith(("docker", "br-", "veth"))
