"""Holds simulations of many mobile nodes against a lab with as many: the role `bulk-nodes`.

    python tests/simulated_crowd.py N…      brings up a lab for each, and prints what recorded-crowds.yaml has

All mobile nodes attach to one network, within a few seconds, renew their registrations there, and go to the
next, in the lab and in the simulation alike. Messages are counted at the same places in both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import NamedTuple

from simulated import CROSSINGS, Count, Message, count, messages

from testbed.simulate.host import Host
from testbed.simulate.model import Model
from testbed.simulate.solutions import SOLUTIONS, Site
from testbed.simulate.world import World

TOPOLOGY = Path(__file__).with_name("unit") / "simulate" / "crowd-counted.yaml"
HOME_AGENT = "203.0.113.41"
TAPS = {"core/internet": CROSSINGS["core-internet"], "ha-crowd/internet": 1}
FILE, REPORT = "/tmp/counted.pcap", "/tmp/counted.txt"
CAPTURE = f"-n -U -B 32768 -s 512 -Z root -w {FILE}"
"""With room for 32 MiB, which no burst fills while a busy machine has tcpdump wait."""
FILTER = f"udp port 434 and host {HOME_AGENT}"
NETWORKS = {"airport": IPv4Network("100.66.0.0/15"), "hotel": IPv4Network("100.64.0.0/15")}
"""Care-of addresses by network, in the order of the steps."""
WITHIN = 6.0
"""Seconds in which the mobile nodes of a step move one after the other."""
LIFETIME = 20
"""Seconds; a renewal is due 7 s before its end, 13 s after a move."""
STAY = 21.0
"""Seconds from one step to the next: each mobile node has renewed once, and none a second time."""


class CrowdStep(NamedTuple):
    """All mobile nodes go to a network, and stay."""

    to: str
    internet: Count
    """At core/internet, where each message comes in and goes out."""
    home_agent: Count

    @property
    def once(self) -> CrowdStep:
        """Without what was sent again."""
        return self._replace(internet=self.internet.once, home_agent=self.home_agent.once)


def simulated(nodes: int) -> list[CrowdStep]:
    """The steps in virtual time, of mobile nodes that are nowhere at first."""
    world = World(SOLUTIONS["plain-mip"], Model(lifetime=LIFETIME), nodes)
    network, home_agent = world.network, world.home_agents[0].tally
    steps = []
    for name in NETWORKS:
        before, began = (network.internet.messages, home_agent.messages), network.now
        for host in world.hosts:
            network.at(began + WITHIN * host.number / nodes, partial(_move, host, world.solution.site(name)))
        network.run(began + STAY)
        internet = TAPS["core/internet"] * (network.internet.messages - before[0])
        steps.append(CrowdStep(name, Count(internet), Count(home_agent.messages - before[1])))
    return steps


def _move(host: Host, site: Site) -> None:
    host.move(site)


def counted(nodes: int) -> list[CrowdStep]:
    """The steps in a lab of its own."""
    lab = f"counted-{nodes}"
    with ExitStack() as ending, tempfile.TemporaryDirectory() as folder:
        ending.callback(_testbed, "down", lab, "--if-exists")
        _testbed("up", str(TOPOLOGY), "--name", lab, "--set", f"node.crowd.count={nodes}")
        for tap in TAPS:
            _shell(
                lab, tap, f"tcpdump {CAPTURE} -i {tap.partition('/')[2]} {FILTER} >{REPORT} 2>&1 & sleep 1"
            )
        for name in NETWORKS:
            _go(lab, name)
        passed = {tap: _captured(lab, tap, Path(folder) / "capture.pcap") for tap in TAPS}
    return [
        CrowdStep(name, *(count(_of(those, prefix), TAPS[tap]) for tap, those in passed.items()))
        for name, prefix in NETWORKS.items()
    ]


def _of(passed: list[Message], prefix: IPv4Network) -> list[Message]:
    """Requests for care-of addresses of a network, and their replies, as long as a step lasts."""
    asked: set[tuple[bytes, bytes]] = set()
    found: list[Message] = []
    for message in passed:
        if message.is_request and IPv4Address(message.payload[12:16]) in prefix:
            asked.add(message.key)
        elif message.is_request or message.key not in asked:
            continue
        found.append(message)
    return [message for message in found if message.time < found[0].time + STAY]


def _go(lab: str, network: str) -> None:
    """Have all go to a network, and stay there."""
    request = json.dumps({"op": "move", "network": network, "within": WITHIN})
    socket = "UNIX-CONNECT:/run/testbed/bulk-nodes.sock"
    _shell(lab, "crowd", f"echo '{request}' | timeout 5 socat -t 5 - {socket} 2>/dev/null | head -n 1")
    time.sleep(STAY)


def _captured(lab: str, tap: str, file: Path) -> list[Message]:
    """What tcpdump has written at a tap; it must not have lost anything."""
    report = _shell(lab, tap, f"kill -INT $(pidof tcpdump); sleep 1; cat {REPORT}").decode()
    assert "\n0 packets dropped by kernel" in report, report
    file.write_bytes(_shell(lab, tap, f"cat {FILE}"))
    return messages(file)


def _shell(lab: str, place: str, script: str) -> bytes:
    """What a script prints in a node, or in that of a tap."""
    return _testbed("exec", lab, place.partition("/")[0], "--", "sh", "-c", script)


def _testbed(*arguments: str) -> bytes:
    command = [sys.executable, "-m", "testbed", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def main(*sizes: str) -> int:
    """Print the counts of the labs, and whether those of simulations are the same."""
    same = True
    for nodes in map(int, sizes):
        lab = counted(nodes)
        alike = [step.once for step in lab] == simulated(nodes)
        same = same and alike
        print(f"{nodes}: # {'as simulated' if alike else f'simulated: {simulated(nodes)}'}")
        for step in lab:
            print(
                f"  - {{to: {step.to}, internet: {list(step.internet)}, home-agent: {list(step.home_agent)}}}"
            )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
