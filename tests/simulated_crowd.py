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

from testbed.mobileip.wire import registration_request
from testbed.simulate.host import Host
from testbed.simulate.model import Model
from testbed.simulate.solutions import SOLUTIONS, Site
from testbed.simulate.world import World

TOPOLOGY = Path(__file__).with_name("unit") / "simulate" / "crowd-counted.yaml"
HOME_AGENT = "203.0.113.41"
TAPS = {"core/internet": CROSSINGS["core-internet"], "ha-crowd/internet": 1}
NETWORKS = {"airport": IPv4Network("100.66.0.0/15"), "hotel": IPv4Network("100.64.0.0/15")}
"""Care-of addresses by network, in the order of the steps."""
WITHIN = 4.0
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
        files = {tap: Path(folder) / f"{number}.pcapng" for number, tap in enumerate(TAPS)}
        with ExitStack() as capturing:
            for tap, file in files.items():
                _capture(capturing, lab, tap, file)
            for name in NETWORKS:
                _go(lab, name)
        passed = {tap: messages(file) for tap, file in files.items()}
    return [
        CrowdStep(name, *(count(_of(those, prefix), TAPS[tap]) for tap, those in passed.items()))
        for name, prefix in NETWORKS.items()
    ]


def _of(passed: list[Message], prefix: IPv4Network) -> list[Message]:
    """Requests for care-of addresses of a network, and their replies, as long as a step lasts."""
    asked: set[bytes] = set()
    found: list[Message] = []
    for message in passed:
        request = message.payload[0] == registration_request.TYPE
        if request and IPv4Address(message.payload[12:16]) in prefix:
            asked.add(message.payload[20:24])
        elif request or message.payload[16:20] not in asked:
            continue
        found.append(message)
    return [message for message in found if message.time < found[0].time + STAY]


def _go(lab: str, network: str) -> None:
    """Have all go to a network, and stay there."""
    request = json.dumps({"op": "move", "network": network, "within": WITHIN})
    socket = "UNIX-CONNECT:/run/testbed/bulk-nodes.sock"
    script = f"echo '{request}' | timeout 5 socat -t 5 - {socket} 2>/dev/null | head -n 1"
    _testbed("exec", lab, "crowd", "--", "sh", "-c", script)
    time.sleep(STAY)


def _capture(ending: ExitStack, lab: str, tap: str, file: Path) -> None:
    """Write a capture until the end; returns when it has begun."""
    expression = f"udp port 434 and host {HOME_AGENT}"
    command = _command("capture", lab, tap, "-w", str(file), *expression.split())
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    ending.callback(process.wait, 30)
    ending.callback(process.terminate)
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "capturing" in first, first


def _testbed(*arguments: str) -> None:
    subprocess.run(_command(*arguments), check=True, stdout=subprocess.DEVNULL)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "testbed", *arguments]


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
