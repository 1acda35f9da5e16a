"""Whether a node's root reaches the engine's host, found out by trying it as an attacker would.

The engine puts no address on the host's end of a network (`engine.docker.BRIDGE_OPTIONS`), so that the host
has no way back into a lab. Two things are the host's own to decide: whether it takes in a packet whose source
it has no route to (`rp_filter`), and whether its end of a new network has an IPv6 link-local address.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from testbed.engine.api import Endpoint, Engine, NetworkSpec
from testbed.lab.addresses import SubnetPool, choose_pool, endpoint_addresses, prefix_length, taken_subnets
from testbed.lab.throwaway import run_throwaway

_DEFAULT_NETWORK: Final = "bridge"
"""The engine's own network, on which its host has the first address."""

# Pings the host's address on another network, asks for its link address, and listens for IPv6 of others.
_ATTACK: Final = """
import json, socket, struct, subprocess, sys, time
target = sys.argv[1]
run = lambda *words: subprocess.run(words, capture_output=True, text=True).stdout
device = json.loads(run("ip", "-json", "-4", "address", "show", "scope", "global"))[0]["ifname"]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD))
wire.bind((device, 0x86DD))
run("ip", "route", "replace", target, "dev", device)
answers = subprocess.run(["ping", "-c", "1", "-W", "1", target], capture_output=True).returncode == 0
takes = "lladdr" in run("ip", "neighbor", "show", target)
own, until, ipv6 = wire.getsockname()[4], time.monotonic() + 3, False
# An echo request to all nodes of the link (RFC 4443 section 4.1).
source, nodes = socket.inet_pton(10, "fe80::42"), socket.inet_pton(10, "ff02::1")
echo = struct.pack("!BBHHH", 128, 0, 0, 1, 1)
words = source + nodes + struct.pack("!II", len(echo), 58) + echo
total = sum(struct.unpack(f"!{len(words) // 2}H", words))
total = (total & 0xFFFF) + (total >> 16)
echo = echo[:2] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + echo[4:]
head = bytes.fromhex("333300000001") + own + struct.pack("!HIHBB", 0x86DD, 6 << 28, len(echo), 58, 255)
while not ipv6 and (left := until - time.monotonic()) > 0:
    wire.send(head + source + nodes + echo)
    wire.settimeout(min(left, 0.5))
    try:
        ipv6 = wire.recv(2048)[6:12] != own
    except TimeoutError:
        pass
print(json.dumps({"answers": answers, "takes": takes, "ipv6": ipv6}))
"""


@dataclass(frozen=True, slots=True)
class Reach:
    """What a node's root gets from the engine's host."""

    answers: bool
    """The host answers IPv4 packets."""
    takes: bool
    """The host takes IPv4 packets in, or forwards them, even if it does not answer."""
    ipv6: bool
    """The host speaks IPv6 on the lab's link."""


def try_to_reach_host(engine: Engine, image: str, label: str) -> Reach:
    """Try it from a throwaway container on a throwaway network, both with `label`. Raises `MachineError`."""
    networks = engine.networks()
    name = f"testbed-doctor-{uuid4().hex[:8]}"
    subnet = SubnetPool(choose_pool(), taken_subnets(networks), lab=name).take(prefix_length(1))
    address = next(endpoint_addresses(subnet, ()))
    defaults = [each.subnets[0] for each in networks if each.name == _DEFAULT_NETWORK and each.subnets]
    target = str((defaults or [subnet])[0][1])
    network = engine.create_network(NetworkSpec(name, subnet, {label: "1"}))
    try:
        attack, endpoint = ("python3", "-c", _ATTACK, target), Endpoint(name, address)
        lines = run_throwaway(engine, name, image, attack, label=label, endpoints=[endpoint])
    finally:
        engine.remove_network(network)
    return Reach(**json.loads(lines[-1]))
