"""What a VPN gateway's settings become: its firewall, and a tunnel to another gateway."""

import pytest

from testbed.render import Secrets, render_lab
from testbed.topology.load import load_topology


def rendered(ref, *sets):
    lab = render_lab(load_topology(ref, sets=sets), lab="lab", secrets=Secrets("psk", "00" * 16))
    return {name: node.files for name, node in lab.nodes.items()}


@pytest.mark.parametrize(
    ("passes", "drops", "registrations"),
    [("ipsec", True, False), ("registrations", True, True), ("everything", False, False)],
)
def test_what_crosses_the_border(passes, drops, registrations):
    rules = rendered("scenario-2.1", f"node.gw.passes={passes}")["gw"][
        "/etc/nftables.d/vpn-gateway.nft"
    ].content
    assert ('iifname "internet" counter drop' in rules) is drops
    assert ('oifname "internet" counter drop' in rules) is drops
    assert ("udp dport 434 counter accept" in rules) is registrations
    if drops and registrations:  # what is let through has to come first
        assert rules.index("accept", rules.index("434")) < rules.index("drop")


def test_the_default_lets_nothing_past():
    files = rendered("scenario-2.1")
    assert files == rendered("scenario-2.1", "node.gw.passes=ipsec")


def test_both_ends_of_a_site_to_site_tunnel():
    files = rendered("figure-10")
    for node, here, there, ours, theirs in (
        ("trusted-fa", "203.0.113.10", "203.0.113.2", "198.51.100.0/26", "10.0.0.0/8"),
        ("gw", "203.0.113.2", "203.0.113.10", "10.0.0.0/8", "198.51.100.0/26"),
    ):
        text = files[node]["/etc/swanctl/swanctl.conf"].content
        site = text[text.index("  site {") : text.index("  clients {")]
        assert f"local_addrs = {here}\n" in site and f"remote_addrs = {there}\n" in site
        assert f"local_ts = {ours}\n" in site and f"remote_ts = {theirs}\n" in site
    # the one that names the other begins, and is ready when the tunnel stands
    assert "--initiate --child site" in files["trusted-fa"]["/etc/swanctl/ready"].content
    assert "--initiate" not in files["gw"]["/etc/swanctl/ready"].content


def test_no_tunnel_without_a_peer():
    assert "site {" not in rendered("scenario-2.1")["gw"]["/etc/swanctl/swanctl.conf"].content
