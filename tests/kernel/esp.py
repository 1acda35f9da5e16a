"""ESP by the kernel between a gateway and a mobile node, from what the templates render.

`test_ordinary_kernel.py` runs this under an ordinary kernel; nodes are namespaces, and the oracles are the
kernel's counters and tcpdump.
"""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import namespaces
import pytest
from node_programs import Program, execute

from testbed.render import Secrets, render_lab
from testbed.topology.load import load_topology

ENGINE = namespaces.Namespaces()
# As init does it, but charon follows a change of its own address (RFC 4555).
CONFIGURE = """
sed -Ei 's/(mobike|roam_events) = no/\\1 = yes/' /etc/swanctl/*.conf /etc/strongswan.conf
exec 3>&1
chmod +x /etc/testbed/esp/*
/etc/testbed/esp/choose
while read -r network address; do
    [ "$address" = - ] && continue
    ip address add "$address" brd + dev "$network"
    ip link set "$network" up
done </etc/testbed/links
[ ! -e /etc/testbed/esp/kernel.policies ] || ip -batch /etc/testbed/esp/kernel.policies
ip -batch /etc/testbed/routes
"""
CARE_OF, GATEWAY, PROTECTED, INNER = "198.51.100.20", "198.51.100.1", "10.0.0.1", "10.0.250.1"
# What the connection manager does on a link, its own code: JSON lines in, an answer out.
MANAGE = """
import asyncio, json, sys
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from testbed.node.roam.links import Links
from testbed.node.roam.policy import KernelPolicy
from testbed.node.roam.roam_toml import load
from testbed.node.roam.vpn import Vpn

config = load(Path("/etc/testbed/roam.toml"))
links, policy = Links(config.home_address, True), KernelPolicy(config.trusted, config.registering)
policy.close()
vpn = Vpn(replace(config.ipsec, mobike=True), in_kernel=True)

for line in sys.stdin:
    match json.loads(line):
        case ["negotiate", local]:
            asyncio.run(vpn.establish(IPv4Address(local), None, 20, 20))
            links.use_inner(vpn.tunnel.inner)
            links.steer(config.ipsec.protects, vpn.tunnel.inner, into_ipsec=True)
        case ["admit", address]:
            policy.admit([IPv4Address(address)], 60)
        case ["join", link]:
            policy.join(link)
        case ["close"]:
            policy.close()
    print("done", flush=True)
"""


class Nodes:
    """The gateway and the mobile node, configured as their init does it, with charon on both."""

    def __init__(self, ids):
        self._ids = ids
        self._programs = []
        for name in ids:
            self.run(name, CONFIGURE)
        self.charon("gw")
        self.mobile = self.charon("mn")
        self.run("mn", f"ip link set wlan up; ip address add {CARE_OF}/26 dev wlan")
        self.run("gw", "swanctl --load-all --noprompt")
        self._manager = self.start("mn", "python3", "-c", MANAGE)

    def run(self, name, script):
        done = execute(ENGINE, self._ids[name], "sh", "-ec", script)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name, *command):
        program = Program(ENGINE, self._ids[name], *command)
        self._programs.append(program)
        return program

    def charon(self, name):
        """Start charon as its service does, and wait until it answers."""
        self.run(name, "rm -f /var/run/charon.*")
        program = self.start(name, "/etc/testbed/esp/charon")
        self.run(name, "until [ -S /var/run/charon.vici ]; do sleep 0.05; done")
        return program

    def manage(self, *order):
        assert self._manager.says(json.dumps(order), "done"), self._manager.stderr.decode()

    def ping(self, name, options, wait=0.1):
        """How many of two packets are answered, where that takes less than a millisecond."""
        script = f"ping -q -c 2 -i 0.1 -W {wait} {options} | sed -n 's/.*, \\([0-9]*\\) received.*/\\1/p'"
        return int(self.run(name, script) or 0)

    def count(self, what):
        (line,) = [one for one in self.run("mn", "cat /proc/net/xfrm_stat").splitlines() if what in one]
        return int(line.split()[1])

    def associations(self):
        """SPI, ends and packets of the mobile node's."""
        words = [line.split() for line in self.run("mn", "ip -s xfrm state").splitlines()]
        ends = [(one[1], one[3]) for one in words if one[0] == "src"]
        spis = [one[3].partition("(")[0] for one in words if one[:2] == ["proto", "esp"]]
        packets = [int(one[1].partition("(")[0]) for one in words if len(one) == 2 and "(bytes)," in one[0]]
        return dict(zip(spis, zip(ends, packets, strict=True), strict=True))

    def close(self):
        for program in reversed(self._programs):
            program.close()


@pytest.fixture(scope="module")
def nodes():
    lab = render_lab(load_topology("figure-7"), lab="esp", secrets=Secrets("psk", "00" * 16))
    both = {name: lab.nodes[name] for name in ("gw", "mn")}
    with namespaces.nodes(replace(lab, nodes=both), Path(os.environ[namespaces.ROOT])) as ids:
        made = Nodes(ids)
        yield made
        made.close()


def test_the_kernel_carries_esp(nodes):
    assert {nodes.run(name, "cat /run/testbed/esp") for name in ("gw", "mn")} == {"kernel\n"}
    assert nodes.ping("mn", PROTECTED) == 0
    nodes.manage("negotiate", CARE_OF)
    seen = nodes.start("mn", "tcpdump", "-lnp", "--immediate-mode", "-i", "wlan", "icmp or esp")
    assert seen.until(lambda: b"listening" in seen.stderr)
    assert nodes.ping("mn", f"-I {INNER} {PROTECTED}", wait=2) == 2
    assert nodes.ping("gw", INNER, wait=2) == 2  # from what it protects: by the route of the script `updown`
    assert {packets for _, packets in nodes.associations().values()} == {4}
    assert seen.until(lambda: len(seen.lines) == 8)
    assert all(": ESP(spi=0x" in line for line in seen.lines)


def test_what_came_in_clear_is_refused_by_the_policy_of_the_kernel(nodes):
    nodes.run(
        "gw", f"ip route add {INNER} via {CARE_OF} dev wlan; ip rule add preference 9 to {INNER} lookup main"
    )
    try:
        before = nodes.count("XfrmInPolBlock")
        assert nodes.ping("gw", f"-I {PROTECTED} {INNER}") == 0
        assert nodes.count("XfrmInPolBlock") == before + 2
        nodes.manage("admit", INNER)
        assert nodes.ping("gw", f"-I {PROTECTED} {INNER}", wait=2) == 2
        nodes.manage("close")
        assert nodes.ping("gw", f"-I {PROTECTED} {INNER}") == 0
    finally:
        nodes.run("gw", "ip rule delete preference 9")


def test_registration_replies_come_in_unprotected_on_links_that_may_be_inside_alone(nodes):
    heard = nodes.start("mn", "socat", "-u", "UDP4-RECV:5353", "STDOUT")
    answer = f"echo reply | socat - UDP4-SENDTO:{CARE_OF}:5353,bind={PROTECTED}:434"
    nodes.manage("join", "wlan")
    before = nodes.count("XfrmInPolBlock")
    nodes.run("gw", answer)
    assert nodes.count("XfrmInPolBlock") == before + 1 and not heard.lines
    nodes.manage("join", "desks")
    nodes.run("gw", answer)
    assert heard.until(lambda: len(heard.lines) == 1)
    nodes.manage("join", "wlan")
    nodes.run("gw", answer)
    assert nodes.count("XfrmInPolBlock") == before + 2 and len(heard.lines) == 1


def test_nothing_leaves_in_clear(nodes):
    nodes.run(
        "mn",
        f"ip route add 10.0.0.0/8 via {GATEWAY} dev wlan; ip rule add preference 9 to 10.0.0.0/8 lookup main",
    )
    try:
        before = nodes.count("XfrmOutPolBlock")
        assert nodes.ping("mn", f"-I {CARE_OF} {PROTECTED}") == 0
        assert nodes.count("XfrmOutPolBlock") > before
        nodes.manage("admit", CARE_OF)
        assert nodes.ping("mn", f"-I {CARE_OF} {PROTECTED}", wait=2) == 2
        nodes.manage("close")
        assert nodes.ping("mn", f"-I {CARE_OF} {PROTECTED}") == 0
    finally:
        nodes.run("mn", "ip rule delete preference 9")


def test_the_same_associations_from_another_address(nodes):
    before = nodes.associations()
    nodes.run("mn", f"ip address add 198.51.100.21/26 dev wlan; ip address delete {CARE_OF}/26 dev wlan")
    nodes.run("mn", "ip address replace 198.51.100.21/26 dev wlan")  # a secondary address goes with the first
    deadline = time.monotonic() + 20
    ends = {("198.51.100.21", GATEWAY), (GATEWAY, "198.51.100.21")}
    while {pair for pair, _ in nodes.associations().values()} != ends:
        assert time.monotonic() < deadline, nodes.associations()
        time.sleep(0.2)
    assert nodes.ping("mn", f"-I {INNER} {PROTECTED}", wait=2) == 2
    after = nodes.associations()
    assert after.keys() == before.keys()
    assert all(after[spi][1] >= before[spi][1] + 2 for spi in before)


def test_nothing_stays_of_a_charon_that_was_killed_but_the_policy(nodes):
    assert nodes.associations()
    nodes.mobile.stop(signal.SIGKILL)
    assert nodes.associations()
    nodes.charon("mn")
    assert nodes.associations() == {}
    assert nodes.run("mn", "ip xfrm policy list dir in action block").count("block") == 2
