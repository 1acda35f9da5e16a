"""How a lab spans several engines: a tunnel end point on each, the way between them, the wires."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import permutations
from secrets import token_hex
from typing import Final, TypeVar

from testbed.engine.api import EngineError
from testbed.engine.vtep import MOST, OVERHEAD, PORT, Heard, Host, Vtep
from testbed.errors import MachineError

Say = Callable[[str], None]
_Result = TypeVar("_Result")

_SMALL: Final = 576
"""Octets of the frames that find out which addresses lead to the others."""
_CLOCKS: Final = 0.02
"""Seconds that the clocks of two engines may differ before it is said."""
_PORT_HINT: Final = f"UDP port {PORT} (VXLAN) has to be open between their hosts, both ways"


@dataclass(frozen=True, slots=True)
class Span:
    """The tunnel end points of one lab, by engine, and what they found out about the way between them."""

    vteps: Mapping[str, Vtep]
    peers: Mapping[str, Mapping[str, IPv4Address]]
    """Engine → other engine → the address by which it is reached."""
    mtu: int
    """Of the lab's links."""

    def lay(self, engine: str, lab: str, network: str, mtu: int | None = None) -> str:
        """Make the device that carries a network on an engine; return its name. Raises `EngineError`."""
        return self.vteps[engine].lay(lab, network, mtu or self.mtu, self.peers[engine].values())


def explore(lab: str, vteps: Mapping[str, Vtep], say: Say) -> Span:
    """Find out how the engines of a lab reach each other, and how large the packets may be.

    Raises `MachineError` where two of them do not, or share one host's network, and `EngineError`.
    """
    hosts, peers = meet(lab, vteps)
    way = min(_mtu(hosts[name], heard_at) for name in vteps for heard_at in _own(name, peers))
    mtu = min(MOST, way - OVERHEAD)
    exact = {name: {peer: [address] for peer, address in found.items()} for name, found in peers.items()}
    trial = _trial(lab)
    full = in_each(vteps, lambda name: vteps[name].reach(lab, trial, exact[name], mtu))
    for one, other in permutations(vteps, 2):
        if other not in full[one]:
            raise MachineError(
                f"packets of {mtu + OVERHEAD} bytes from engine {other} do not arrive at engine {one}, "
                "though the interfaces of both hosts take them",
                hint="some link between them has a smaller MTU: set that of the hosts' interfaces to it",
            )
    _compare_clocks(full, say)
    say(f"engines {', '.join(vteps)}: VXLAN on UDP port {PORT}, MTU {mtu}")
    return Span(vteps, peers, mtu)


def meet(
    lab: str, vteps: Mapping[str, Vtep]
) -> tuple[Mapping[str, Host], Mapping[str, Mapping[str, IPv4Address]]]:
    """Let the engines of a lab find each other; return their hosts, and the peers as `Span` has them.

    Raises `MachineError` where two of them do not, or share one host's network, and `EngineError`.
    """
    hosts = in_each(vteps, lambda name: vteps[name].host())
    for one, other in permutations(hosts, 2):
        if hosts[one].namespace == hosts[other].namespace:
            raise MachineError(
                f"engines {one} and {other} are the same engine, or share the network of one host: "
                "a lab cannot be on both",
                hint="name one of them, or an engine of another host",
            )
    known = {
        name: {peer: _foreign(hosts[peer], hosts[name]) for peer in hosts if peer != name} for name in hosts
    }
    trial = _trial(lab)
    heard = in_each(vteps, lambda name: vteps[name].reach(lab, trial, known[name], _SMALL))
    peers = {name: _addresses(name, heard, hosts) for name in vteps}
    return hosts, peers


def in_each(names: Collection[str], action: Callable[[str], _Result]) -> dict[str, _Result]:
    """Do the same on several engines at once; return name → result. Raises what the first of them raises."""
    with ThreadPoolExecutor(max(1, len(names)), thread_name_prefix="engines") as threads:
        return dict(zip(names, threads.map(action, names), strict=True))


def _trial(lab: str) -> str:
    """A network to try the way with: no other has its name, nor does another trial at the same time."""
    return f"{lab}_reach_{token_hex(3)}"


def _foreign(peer: Host, own: Host) -> list[IPv4Address]:
    """The addresses of a peer that are not also addresses of one's own."""
    return [address for address in peer.addresses if address not in own.addresses]


def _addresses(
    name: str, heard: Mapping[str, Mapping[str, Heard]], hosts: Mapping[str, Host]
) -> dict[str, IPv4Address]:
    """The address of each other engine as this one has heard it."""
    found: dict[str, IPv4Address] = {}
    for peer in heard:
        if peer == name:
            continue
        one = heard[name].get(peer)
        if one is None or one.address is None:
            tried = ", ".join(map(str, hosts[name].addresses)) or "no address"
            raise MachineError(
                f"engines {peer} and {name} do not reach each other: nothing from {peer} arrived at {name} "
                f"({tried})",
                hint=_PORT_HINT,
            )
        found[peer] = one.address
    return found


def _own(name: str, peers: Mapping[str, Mapping[str, IPv4Address]]) -> list[IPv4Address]:
    """The addresses by which the others reach an engine."""
    return [addresses[name] for other, addresses in peers.items() if other != name]


def _mtu(host: Host, address: IPv4Address) -> int:
    if address not in host.addresses:
        raise EngineError(
            f"{address} is not an address of the engine that sends from it: there is a NAT in between",
            hint="engines that share a lab have to reach each other without address translation",
        )
    return host.addresses[address]


def _compare_clocks(heard: Mapping[str, Mapping[str, Heard]], say: Say) -> None:
    """Say where two clocks differ: what is measured between their nodes is that much out."""
    done: set[frozenset[str]] = set()
    for one, other in permutations(heard, 2):
        if frozenset((one, other)) in done or one not in heard[other]:
            continue
        done.add(frozenset((one, other)))
        # Each sees the other's stamps late by the way; half the difference is that of the clocks.
        apart = abs(heard[one][other].ahead - heard[other][one].ahead) / 2
        if apart > _CLOCKS:
            say(
                f"the clocks of engines {one} and {other} differ by {apart * 1000:.0f} ms: captures of their "
                "nodes do not fit together; let both follow one NTP server"
            )
