"""What a VPN client is told: where it is inside, and what its IPsec policy lets pass."""

import tomllib

import pytest

from testbed.data import data_dir
from testbed.render import Secrets, render_lab
from testbed.topology.load import load_topology

RULES = "/etc/testbed/esp/userspace.nft"
POLICIES = "/etc/testbed/esp/kernel.policies"


def files(ref, *sets):
    lab = render_lab(load_topology(ref, sets=sets), lab="lab", secrets=Secrets("psk", "00" * 16))
    return {path: file.content for path, file in lab.nodes["mn"].files.items()}


def test_every_stack_with_ipsec_has_rules_and_no_other():
    for stack in ("mip-in-ipsec", "ipsec-in-mip"):
        assert files("scenario-2.1", f"stack={stack}")[RULES].count("10.0.0.0/8 counter drop") == 2
    assert RULES not in files("scenario-2.1", "stack=mip-only")


@pytest.mark.parametrize(
    ("stack", "trusted"),
    [("mip-in-ipsec", {"office", "campus", "home"}), ("ipsec-in-mip", {"home"})],
)
def test_the_domains_and_the_stack_say_where_it_may_be_inside(stack, trusted):
    roam = tomllib.loads(files("scenario-2.5", f"stack={stack}")["/etc/testbed/roam.toml"])
    assert {name for name, network in roam["networks"].items() if network["trusted"]} == trusted


def test_the_monitoring_time_is_a_setting():
    roam = tomllib.loads(files("scenario-2.1", "node.mn.monitor=5s")["/etc/testbed/roam.toml"])
    assert roam["monitor"] == 5


def test_registrations_pass_inside_alone_unless_split_tunnelling_is_asked_for():
    assert 'oifname { "office", "campus", "home" } udp dport 434 accept' in files("scenario-2.1")[RULES]
    rules = files("scenario-2.1", "node.mn.passes=registrations")[RULES].splitlines()
    assert "    udp dport 434 accept" in rules and "    udp sport 434 accept" in rules


def test_registrations_pass_inside_by_the_link_and_with_split_tunnelling_everywhere():
    """The kernel's policies for what comes in know no link: the connection manager changes them."""
    come_in = "dir in proto udp sport 434 priority 1000000 action allow"
    for sets, static, links in (
        ((), False, {"office", "campus", "home"}),
        (("stack=ipsec-in-mip",), False, {"office", "campus", "home"}),
        (("node.mn.passes=registrations",), True, set()),
    ):
        roam = tomllib.loads(files("scenario-2.1", *sets)["/etc/testbed/roam.toml"])
        assert {name for name, link in roam["networks"].items() if link.get("registrations")} == links
        assert (come_in in policies(*sets)) == static


def test_a_client_that_is_never_inside(tmp_path):
    file = tmp_path / "outside.yaml"
    included = data_dir("topologies") / "figure-7.yaml"
    file.write_text(
        f"name: outside\ninclude: [{included}]\nnetworks: {{desks: {{domain: dmz}}, home: {{domain: dmz}}}}\n"
    )
    rules = files(str(file))[RULES]
    assert "434" not in rules and '""' not in rules


def test_the_rules_are_there_before_any_link():
    init = (data_dir("images") / "init").read_text()
    assert init.index("/etc/testbed/esp/choose\n") < init.index('"$settings" | ip -batch')
    assert init.index('nft --file "$rules"') < init.index('"$settings" | ip -batch')
    names, policies, links = (
        "set dev renamed",
        '$(cat "/etc/testbed/esp/$esp.policies")',
        "link set dev $network up",
    )
    assert init.index(names) < init.index(policies) < init.index(links)


def policies(*sets):
    lines = files("scenario-2.1", *sets)[POLICIES].splitlines()
    return {line.removeprefix("xfrm policy add ") for line in lines if not line.startswith("#")}


def test_the_policies_of_the_kernel_say_what_the_rules_say():
    found = policies()
    for link in ("hotel", "airport", "hotspot", "office", "campus", "home"):
        assert f"dir out dev {link} dst 10.0.0.0/8 priority 1100000 action block" in found
        inside = f"dir out dev {link} proto udp dport 434 priority 1000000 action allow" in found
        assert inside == (link in ("office", "campus", "home"))
    assert "dir in src 10.0.0.0/8 priority 1100000 action block" in found
    assert POLICIES not in files("scenario-2.1", "stack=mip-only")


def test_the_order_of_the_stack_says_whether_tunnels_of_mobile_ip_meet_links():
    inner, outer = policies("stack=mip-in-ipsec"), policies("stack=ipsec-in-mip")
    assert "dir in proto 4 priority 1100000 action block" in inner
    assert "dir in proto 4 priority 1000000 action allow" in outer
    gre = policies("stack=mip-in-ipsec", "node.mn.encapsulation=gre")
    assert "dir out dev hotel proto 47 priority 1100000 action block" in gre


@pytest.mark.parametrize(("stack", "protected"), [("mip-in-ipsec", "1"), ("ipsec-in-mip", "0")])
def test_what_comes_out_of_mip_tunnels_is_judged_unless_ipsec_was_around_it(stack, protected):
    lab = render_lab(
        load_topology("scenario-2.1", sets=[f"stack={stack}"]), lab="lab", secrets=Secrets("psk", "00" * 16)
    )
    assert lab.nodes["mn"].sysctls["net.ipv4.conf.default.disable_policy"] == protected


@pytest.mark.parametrize("plane", ["auto", "kernel", "userspace"])
def test_what_carries_esp_is_an_option(plane):
    for node in ("mn", "gw"):
        lab = render_lab(
            load_topology("scenario-2.1", sets=[f"esp={plane}"]), lab="lab", secrets=Secrets("psk", "00" * 16)
        )
        assert f"asked={plane}\n" in lab.nodes[node].files["/etc/testbed/esp/choose"].content
