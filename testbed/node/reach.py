"""Try the way between engines before a lab's networks use it: frames over a VXLAN device that lives so long.

    python3 -m testbed.node.reach '{"name": "a", "device": "tb1", "alias": "trial", "vni": 1, "port": 4789,
                                    "size": 1450, "peers": {"b": ["192.0.2.2"]}}'

Runs where a lab's VXLAN devices are made, with the network of the engine's host. It floods frames of `size`
bytes of payload to every address that a peer may have, until each peer was heard and has heard this one, and
prints a line of JSON: peer → `address` it sends from, and `ahead`, the seconds by which its clock is ahead of
this one, less the time that a frame takes. The kernel learns the address of a sender (RFC 7348 §4.1): the
address to send to. A macvlan device, as nodes have, is tried on it, too.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

ETHERTYPE: Final = 0x88B5
"""IEEE 802's first one for local experiments."""
WITHIN: Final = 10.0  # seconds for all to hear each other; on busy machines they begin apart
_EVERY: Final = 0.05  # seconds between two frames
_HEADER: Final = 14  # octets of Ethernet before the payload
_EVERYBODY: Final = b"\xff" * 6
_NO_ADDRESS: Final = "00:00:00:00:00:00"  # in the forwarding table: where broadcasts go


def frame(source: bytes, message: Mapping[str, Any], size: int) -> bytes:
    """A broadcast with a message, filled up to `size` octets of payload."""
    payload = json.dumps(message).encode()
    return _EVERYBODY + source + ETHERTYPE.to_bytes(2) + payload.ljust(size, b" ")


def read_frame(data: bytes) -> tuple[str, dict[str, Any]]:
    """The link address of the sender, and the message."""
    return data[6:12].hex(":"), json.loads(data[_HEADER:])


class Hearing:
    """What was heard of the peers, and whether they heard us."""

    def __init__(self, name: str, peers: Sequence[str]) -> None:
        self.name = name
        self.heard: dict[str, dict[str, Any]] = {}
        self._peers = {*peers}

    def take(self, mac: str, message: Mapping[str, Any], now: float) -> None:
        """A frame has come."""
        peer = message["name"]
        if peer not in self._peers:
            return
        known = self.heard.setdefault(peer, {"mac": mac, "ahead": message["sent"] - now, "heard": False})
        known["ahead"] = max(known["ahead"], message["sent"] - now)
        known["heard"] = known["heard"] or self.name in message["heard"]

    def message(self, now: float) -> dict[str, Any]:
        """What to say now."""
        return {"name": self.name, "heard": sorted(self.heard), "sent": now}

    @property
    def done(self) -> bool:
        """Whether all peers were heard, and heard us."""
        return self._peers == self.heard.keys() and all(one["heard"] for one in self.heard.values())


def _exchange(hearing: Hearing, device: str, size: int) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE)) as wire:
        wire.bind((device, ETHERTYPE))
        source = wire.getsockname()[4]
        deadline = time.monotonic() + WITHIN
        while time.monotonic() < deadline:
            done = hearing.done
            wire.send(frame(source, hearing.message(time.time()), size))
            if done:  # the last frame said that we heard everybody
                return
            until = time.monotonic() + _EVERY
            while (left := until - time.monotonic()) > 0:
                wire.settimeout(left)
                try:
                    data, sender = wire.recvfrom(0xFFFF)
                except TimeoutError:
                    break
                if sender[2] != socket.PACKET_OUTGOING:
                    hearing.take(*read_frame(data), time.time())


def _addresses(device: str) -> dict[str, str]:
    """Link address → where the kernel sends what is for it."""
    table = _run("bridge", "-j", "fdb", "show", "dev", device)
    return {entry["mac"]: entry["dst"] for entry in json.loads(table) if "dst" in entry}


def _run(*command: str, lenient: bool = False) -> str:
    """What a command prints. Where it fails, and that matters, its own words end the program."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0 and not lenient:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def main(argument: str) -> None:
    """Make the device, exchange frames, and take the device away."""
    asked = json.loads(argument)
    device, peers = asked["device"], asked["peers"]
    hearing = Hearing(asked["name"], list(peers))
    kind = ("type", "vxlan", "id", str(asked["vni"]), "dstport", str(asked["port"]), "df", "set")
    _run("ip", "link", "add", device, *kind)
    try:
        _run("ip", "link", "set", device, "alias", asked["alias"])
        _run("ip", "link", "set", device, "addrgenmode", "none", lenient=True)  # there may be no IPv6
        for address in (one for several in peers.values() for one in several):
            _run("bridge", "fdb", "append", _NO_ADDRESS, "dev", device, "dst", address)
        _run("ip", "link", "set", device, "mtu", str(asked["size"]), "up")
        _run("ip", "link", "add", "link", device, f"{device}n", "type", "macvlan", "mode", "bridge")
        _exchange(hearing, device, asked["size"])
        addresses = _addresses(device)
    finally:
        _run("ip", "link", "delete", device, lenient=True)
    found = {
        peer: {"address": addresses.get(one["mac"]), "ahead": one["ahead"]}
        for peer, one in hearing.heard.items()
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
