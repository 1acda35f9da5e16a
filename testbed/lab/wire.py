"""Whether a lab's network is a plain wire, found out by trying it.

Where br_netfilter hands bridged packets to the host's firewall, rules for others' networks meet them, too:
those of Podman (netavark) and of firewalld drop what no connection explains, such as the answer to a
broadcast.
"""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from testbed.engine.api import ContainerSpec, Endpoint, Engine, NetworkSpec
from testbed.lab.addresses import SubnetPool, choose_pool, endpoint_addresses, prefix_length, taken_subnets
from testbed.lab.throwaway import run_throwaway

REMEDY: Final = "on the engine's host: sysctl -w net.bridge.bridge-nf-call-iptables=0"

_HEARS: Final = {"net.ipv4.icmp_echo_ignore_broadcasts": "0"}
# Each destination until it is answered, three times at most: the other end may have just started.
_SCRIPT: Final = """
for everybody in 224.0.0.1 255.255.255.255; do
    for try in 1 2 3; do ping -b -c 1 -W 1 -t 1 -I eth0 $everybody >/dev/null 2>&1 && continue 2; done
    echo $everybody
done
"""


def unanswered(engine: Engine, image: str, label: str) -> list[str]:
    """Send echo requests to everybody on a throwaway network; return the destinations without an answer.

    Everything made for it carries `label`. Raises `EngineError`, `MachineError`.
    """
    name = f"testbed-doctor-{uuid4().hex[:8]}"
    subnet = SubnetPool(choose_pool(), taken_subnets(engine.networks()), lab=name).take(prefix_length(2))
    addresses = endpoint_addresses(subnet, ())
    network = engine.create_network(NetworkSpec(name, subnet, {label: "1"}))
    try:
        other = engine.create_container(
            ContainerSpec(
                name=f"{name}-other",
                hostname="doctor",
                image=image,
                labels={label: "1"},
                endpoints=(Endpoint(name, next(addresses)),),
                archive=b"",
                sysctls=_HEARS,
                command=("sleep", "infinity"),
            )
        )
        try:
            engine.start_container(other)
            command, endpoint = ("sh", "-c", _SCRIPT), Endpoint(name, next(addresses))
            return run_throwaway(engine, name, image, command, label=label, endpoints=[endpoint])
        finally:
            engine.remove_container(other)
    finally:
        engine.remove_network(network)
