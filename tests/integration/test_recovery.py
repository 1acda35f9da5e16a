"""What comes back, and how fast, when programs inside nodes are killed or stopped: on a real engine.

Nothing is told to anybody after the kill: what mends is what runs in the nodes. Times are printed (`-s`);
bounds are such that a busy machine keeps them, too.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address
from typing import Any

import pytest

from testbed.errors import TestbedError
from testbed.lab.daemons import ask
from testbed.mobileip.core.association import sign
from testbed.mobileip.core.security import SecurityAssociation
from testbed.mobileip.wire.authentication import MOBILE_HOME
from testbed.mobileip.wire.identification import from_unix
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.pytest_plugin import Lab, LabFactory

BOUND = 15.0
"""Seconds until the data path is back; on a quiet machine it is two."""

REPLAY = """
import socket, struct, sys
payload = bytes.fromhex(sys.argv[1])
source, destination = map(socket.inet_aton, sys.argv[2:4])
udp = struct.pack("!HHHH", 434, 434, 8 + len(payload), 0) + payload
header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, 17, 0, source, destination)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.sendto(header + udp, (sys.argv[3], 0))
"""
"""Send a datagram once more, as somebody on the way would who has recorded it."""


@pytest.fixture(scope="module")
def lab(testbed_lab: LabFactory) -> Lab:
    """Plain Mobile IPv4, up, as lessons have it."""
    return testbed_lab("plain-mip", attach="home")


@pytest.fixture(scope="module")
def intranet(testbed_lab: LabFactory) -> Lab:
    """Scenario 2.1, up."""
    return testbed_lab("scenario-2.1")


class Node:
    """One node of a lab, for tests."""

    def __init__(self, lab: Lab, name: str) -> None:
        lab.changed = True  # by what is killed
        self._engine = lab.engine
        self.container = lab.actual.nodes[name]

    def sh(self, command: str) -> str:
        """Run a shell command; what it printed."""
        with self._engine.execute(self.container.id, ["sh", "-c", command]) as session:
            return b"".join(text for _, text in session).decode()

    def pid(self, service: str) -> int:
        """The process of a service; waits for its supervisor to start it."""
        file = f"/etc/testbed/services/{service}/supervise/pid"
        # The file is empty while the service is down: what is looked at has to be what is read.
        read = f"{{ until read -r pid <{file}; do sleep 0.02; done; }} 2>/dev/null; echo $pid"
        return int(self.sh(f"timeout {BOUND:g} sh -c '{read}'"))

    def worker(self, service: str) -> int | None:
        """The process behind the TUN device of a Mobile IP daemon; None while there is none."""
        pid = self.pid(service)
        children = self.sh(f"cat /proc/{pid}/task/{pid}/children").split()
        return int(children[0]) if children else None

    def kill(self, pid: int, signal: str) -> None:
        """Send a signal, and wait until it has worked: nothing afterwards meets the process still alive."""
        worked = "[ ! -e /proc/$0 ]" if signal == "KILL" else "grep -q '^State:.T' /proc/$0/status"
        self.sh(f"kill -{signal} $0; until {worked}; do sleep 0.01; done".replace("$0", str(pid)))

    def state(self, service: str) -> dict[str, Any]:
        return ask(self._engine, self.container, service, {"op": "state"})

    def kernel(self) -> list[str]:
        """Rules, routes, fixed neighbours, those answered for by proxy, and addresses."""
        shown = self.sh(
            "ip rule; ip route show table all; ip neigh show nud permanent; ip neigh show proxy;"
            "ip -br -4 address"
        )
        return sorted(line.strip() for line in shown.splitlines())


def answered(
    node: Node, source: str, destination: str, since: float | None = None, bound: float = BOUND
) -> float:
    """Ping until there is an answer; the seconds that took, `since` a time of the monotonic clock."""
    began = since or time.monotonic()
    ping = f"ping -c 1 -W 0.5 -I {source} {destination}"
    shown = node.sh(f"timeout {bound:g} sh -c 'until {ping}; do sleep 0.02; done; echo answered'")
    took = time.monotonic() - began
    assert "answered" in shown, f"no answer from {destination} for {took:.0f} s: {shown[-500:]}"
    return took


def attach(lab: Lab, network: str) -> None:
    moved = lab.move("mn", network)
    assert moved.state == "registered", moved


def registers(lab: Lab, network: str) -> bool:
    return lab.move("mn", network).state == "registered"


@pytest.mark.parametrize("hit", ["daemon killed", "worker killed", "worker stopped"])
@pytest.mark.parametrize(
    ("name", "service", "network"),
    [
        ("ha", "home-agent", "hotel"),
        ("fa-hotspot", "foreign-agent", "hotspot"),
        ("mn", "mobile-node", "hotel"),
    ],
)
def test_a_mobile_ip_daemon(lab: Lab, name: str, service: str, network: str, hit: str) -> None:
    node, mn, cn = Node(lab, name), Node(lab, "mn"), Node(lab, "cn")
    if hit != "daemon killed" and node.state(service)["backend"] == "kernel":
        return  # the tunnel is the kernel's, and no process can die
    attach(lab, network)
    answered(mn, "192.0.2.100", "192.0.2.10")
    before = node.kernel()
    pid = node.pid(service) if hit == "daemon killed" else node.worker(service)
    assert pid is not None
    began = time.monotonic()
    node.kill(pid, "STOP" if hit == "worker stopped" else "KILL")
    there = answered(mn, "192.0.2.100", "192.0.2.10", began)
    back = answered(cn, "192.0.2.10", "192.0.2.100", began)
    print(f"\n{service}, {hit}: back after {there:.2f} s, the other way {back:.2f} s")
    until(lambda: pid not in (node.pid(service), node.worker(service)) and node.kernel() == before)


def test_a_home_agent_accepts_no_replay_after_it_was_killed(lab: Lab) -> None:
    ha, router = Node(lab, "ha"), Node(lab, "hotel-router")
    attach(lab, "hotel")
    (binding,) = bindings(ha)
    (security,) = tomllib.loads(ha.sh("cat /etc/mobileip/home-agent.toml"))["security"]
    home_address = IPv4Address("192.0.2.100")
    home_agent = IPv4Address(ha.state("home-agent")["address"])
    request = RegistrationRequest(
        int(RequestFlag.DECAPSULATION | RequestFlag.REVERSE_TUNNEL),
        600,
        home_address,
        home_agent,
        IPv4Address(binding["care_of_addresses"][0]),
        from_unix(float(ha.sh("date +%s.%N"))) % 2**64,
    )
    association = SecurityAssociation(home_address, security["spi"], bytes.fromhex(security["key"]))
    payload = sign(request.encode(), MOBILE_HOME, association).hex()
    send = f"python3 -c '{REPLAY}' {payload} {binding['care_of_addresses'][0]} {home_agent}"

    def counted(key: str) -> int:
        counters: dict[str, int] = ha.state("home-agent")["counters"]
        return counters.get(key, 0)

    accepted = counted("requests-accepted")
    router.sh(send)
    until(lambda: counted("requests-accepted") == accepted + 1)
    pid = ha.pid("home-agent")
    ha.kill(pid, "KILL")
    until(lambda: ha.pid("home-agent") != pid and bindings(ha) != [])
    router.sh(send)
    until(lambda: counted("denied-133") == 1)
    assert counted("requests-accepted") == 0


def bindings(ha: Node) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = ha.state("home-agent")["bindings"]
    except TestbedError:  # it is starting
        return []
    return found


def until(true: Callable[[], bool]) -> None:
    """Wait for something to come true."""
    end = time.monotonic() + BOUND
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("name", "service", "bound"),
    [("mn", "charon", 15.0), ("gw", "charon", 60.0), ("r1", "bird", 30.0), ("hotel-router", "dnsmasq", 15.0)],
)
def test_other_daemons(intranet: Lab, name: str, service: str, bound: float) -> None:
    node, mn, cn = (Node(intranet, each) for each in (name, "mn", "cn"))
    attach(intranet, "hotel")
    answered(mn, "10.0.1.100", "10.0.4.10")
    pid = node.pid(service)
    began = time.monotonic()
    node.kill(pid, "KILL")
    there = answered(mn, "10.0.1.100", "10.0.4.10", began, bound)
    back = answered(cn, "10.0.4.10", "10.0.1.100", began, bound)
    print(f"\n{service} of {name} killed: back after {there:.2f} s, the other way {back:.2f} s")
    until(lambda: node.pid(service) != pid)
    for network in ("airport", "hotel"):
        # BIRD keeps the kernel's routes, and yet its neighbours lose their ways through it for some seconds.
        until(partial(registers, intranet, network))
