"""Whatever fails on a VPN client, and however it is routed: what IPsec protects does not leave in clear."""

import re
from contextlib import contextmanager

import pytest

from testbed.claim.steps import Step
from testbed.experiment.claims.perform import Performer, set_service, settle
from testbed.lab.captures import Captures
from testbed.packet.taps import match_taps

MONITOR = 3.0
CLEAR = "ip and dst net 10.0.0.0/8 and not dst host 10.0.1.100"
MISROUTE = """\
ip route replace 10.0.0.0/8 via 198.51.100.65 dev hotel onlink
ip rule add to 10.0.0.0/8 table main preference 1
"""
REROUTE = "ip rule del preference 1 || :; ip route del 10.0.0.0/8 || :"
PING = (
    "ping -q -c 5 -i 0.1 -W 1 -I 10.0.1.100 10.0.4.10 || :; ping -q -c 5 -i 0.1 -W 1 -I hotel 10.0.4.10 || :"
)
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def lab(testbed_lab):
    """Scenario 2.1 as other tests have it, but for the time of monitoring."""
    lab = testbed_lab("scenario-2.1")
    lab.changed = True  # by what fails, and is misrouted
    with dead(lab.access, "roam"):
        lab.exec("mn", "sed", "-i", f"s/^monitor = .*/monitor = {MONITOR:g}/", "/etc/testbed/roam.toml")
    return lab.access


@contextmanager
def watched(lab, *networks):
    captures = Captures(lab, [f"mn/{network}" for network in networks])
    captures.start()
    try:
        yield captures
    finally:
        captures.stop()


@contextmanager
def dead(lab, *services):
    for name in services:
        set_service(lab, "mn", name, "down")
    try:
        yield
    finally:
        for name in reversed(services):
            set_service(lab, "mn", name, "up")


def matched(captures, tap, expression):
    (found,) = match_taps(captures.look([tap]), expression, {})
    return found


# By what carries ESP: what counts packets that the policy keeps from leaving, how many at least (ping ends
# where it cannot connect), how to take the policy away, and to put it back.
POLICY = {
    "userspace": (
        "nft list chain inet vpn-client output",
        5,
        "nft delete table inet vpn-client",
        "nft -f /etc/testbed/esp/userspace.nft",
    ),
    "kernel": (
        "cat /proc/net/xfrm_stat",
        1,
        "ip xfrm policy deleteall dir out action block",
        "grep 'dir out.* block$' /etc/testbed/esp/kernel.policies | ip -batch -",
    ),
}
DROPPED = re.compile(r"counter packets (\d+) bytes \d+ drop|XfrmOutPolBlock\s+(\d+)")


def policy(lab):
    return POLICY[lab.shell("mn", "cat /run/testbed/esp").text.strip()]


def dropped(lab):
    return sum(int(one or other) for one, other in DROPPED.findall(lab.shell("mn", policy(lab)[0]).text))


@pytest.mark.parametrize(
    "failed", [(), ("charon",), ("roam",), ("mobile-node",), ("roam", "mobile-node", "charon")], ids=str
)
def test_outside_nothing_leaves_in_clear(lab, failed):
    settle(lab, {"op": "move", "network": "hotel"})
    before = dropped(lab)
    with watched(lab, "hotel") as captures, dead(lab, *failed):
        try:
            lab.shell("mn", MISROUTE + PING, within=30)
        finally:
            lab.shell("mn", REROUTE)
    assert (
        dropped(lab) - before >= policy(lab)[1]
    )  # it did try; the home address goes with the Mobile IP daemon
    assert matched(captures, "mn/hotel", CLEAR).packets == ()


def test_without_the_rules_it_would(lab):
    settle(lab, {"op": "move", "network": "hotel"})
    *_, away, back = policy(lab)
    with watched(lab, "hotel") as captures:
        try:
            lab.shell("mn", f"{away}\n{MISROUTE}{PING}", within=30)
        finally:
            lab.shell("mn", f"{back}\n{REROUTE}")
    assert len(matched(captures, "mn/hotel", CLEAR).packets) >= 10


def test_with_nobody_left_to_notice_the_kernel_ends_it_in_time(lab):
    performer = Performer(lab, None)
    try:
        with watched(lab, "campus", "hotel") as captures:
            settle(lab, {"op": "move", "network": "campus"})
            # From before on: on a slow machine the time may be up when what follows has been done.
            lab.shell("mn", "ping -q -c 100 -i 0.1 -W 1 -I 10.0.1.100 10.0.4.10 >/dev/null 2>&1 &")
            performer.perform(Step.model_validate({"carry": "hotel"}), "steps/0")
            with dead(lab, "roam"):
                lab.shell("mn", "sleep 6", within=30)
    finally:
        performer.undo()
    granted = matched(captures, "mn/campus", "udp src port 434 and udp[8] = 3").times
    clear = matched(captures, "mn/hotel", CLEAR).times
    assert clear and max(clear) < max(granted) + MONITOR
