"""The mobile node's IPsec policy where it is the kernel's own, with an `ip` that is only remembered."""

from ipaddress import IPv4Address
from subprocess import CompletedProcess

import pytest

from testbed.node.roam import policy
from testbed.node.roam.links import LinkError

HOME, CARE_OF = IPv4Address("10.0.1.100"), IPv4Address("10.0.2.7")


@pytest.fixture
def kernel(monkeypatch):
    """What was asked of `ip`, a batch of lines for each time, and of the devices."""
    asked = []

    def run(command, *, input, **_):
        assert command == ["ip", "-batch", "-"]
        asked.append([line.removeprefix("xfrm policy ") for line in input.splitlines()])
        return CompletedProcess(command, 1 if "9.9.9.9" in input else 0, "", "RTNETLINK answers: No\nmore\n")

    monkeypatch.setattr(policy.subprocess, "run", run)
    monkeypatch.setattr(policy, "_judge", lambda *one: asked.append(one))
    return asked


def test_links_are_judged_and_what_came_out_of_esp_is_not(kernel):
    policy.KernelPolicy(["hotel", "campus"])
    assert kernel == [("hotel", True), ("campus", True), ("ipsec0", False)]


def test_addresses_are_let_in_for_a_time_and_others_no_more(kernel):
    inside = policy.KernelPolicy([])
    inside.admit([HOME, CARE_OF], 59.9)
    inside.admit([HOME], 0.2)
    allowed = "priority 900000 action allow limit time-hard"
    assert kernel[1:] == [
        [
            f"update dir {way} {one}/32 {allowed} 59"
            for one in (HOME, CARE_OF)
            for way in ("out src", "in dst")
        ],
        [
            *(f"update dir {way} {HOME}/32 {allowed} 1" for way in ("out src", "in dst")),
            *(f"delete dir {way} {CARE_OF}/32" for way in ("out src", "in dst")),
        ],
    ]


def test_closing_takes_away_what_a_predecessor_let_in_too(kernel):
    policy.KernelPolicy([]).close()
    gone, anew = kernel[-1]
    assert gone == "deleteall priority 900000"
    assert anew.startswith("update dir out dev lo")  # so that sockets look for their way again


def test_registration_replies_come_in_where_the_link_may_be_inside(kernel):
    asked = policy.KernelPolicy([], {"campus", "home"})
    for link in ("hotel", "campus", "home", "airport", "hotel"):
        asked.join(link)
    gone, let_in = "deleteall dir in priority 900001", "update dir in proto udp sport 434 priority 900001"
    assert kernel[1:] == [[gone], [f"{let_in} action allow"], [gone]]  # first of all a predecessor's


def test_where_no_link_is_inside_there_is_nothing_to_change(kernel):
    policy.KernelPolicy([]).join("hotel")
    assert kernel == [("ipsec0", False)]


def test_what_cannot_be_changed_is_said(kernel):
    with pytest.raises(LinkError, match=r"^IPsec policy: RTNETLINK answers: No$"):
        policy.KernelPolicy([]).admit([IPv4Address("9.9.9.9")], 1.0)


def test_an_interface_that_is_not_there():
    with pytest.raises(LinkError, match="nowhere"):
        policy._judge("nowhere", True)
