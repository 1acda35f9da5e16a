"""Sabotage: what contradicts the document comes out as refuted, and what decides nothing as inconclusive.

Each sabotage changes the topology the way a user would, with `--set` or in a copy of the files, and leaves
the claims and their controls as they are (where a claim's own run asks for what is sabotaged, the run).
"""

import pytest
from claims_world import Sabotage, assert_verdicts, sabotaged

pytestmark = pytest.mark.timeout(600)

FA = "  fa-hotspot:\n    roles: [router, foreign-agent]"
DHCP = """  hotspot-router:
    roles: [router, dhcp-server]
    links: {internet: 203.0.113.11, hotspot: 198.51.100.2}
    settings: {dhcp-pool: 198.51.100.10-198.51.100.50}
"""
KEYS = (
    "settings: {visited: hotspot, care-of: hotspot, peer: gw, outside: internet, protects: 198.51.100.0/26}"
)
ROUTES = "links: {backbone: 10.0.0.2}\n    routes: {default: 10.0.0.1"
THROUGH_IPSEC = """\
      steps:
        - move: {to: hotel, reaches: registered}
        - carry: hotspot
        - register: {through: ipsec, within: 2s}
"""
PAST_IPSEC = "      sets: [node.mn.passes=registrations]\n" + THROUGH_IPSEC.replace(
    "through: ipsec", "through: hotspot"
)
REGISTERS = "        - move: airport\n      expect:\n        - mobile-node: {state: registered"

SABOTAGES = {
    "a gateway that forwards everything": Sabotage(
        ("2.1-gateway-guards", "2.1-fa-cleartext-no-help"), sets=("node.gw.passes=everything",)
    ),
    "IPsec off": Sabotage(
        ("2.1-colocated-registers", "2.1-colocated-renegotiates", "2.1-fa-no-cleartext"),
        (("options: {stack: mip-in-ipsec", "options: {stack: mip-only"),),
    ),
    "DHCP on the link of the foreign agent": Sabotage(
        ("2.1-fa-registration-impossible", "2.1-fa-blocks-ipsec"), ((FA, DHCP + FA),)
    ),
    "a bypass lets the mobile node hear": Sabotage(("2.1-fa-mn-deaf",), (('bypass: "off"', 'bypass: "on"'),)),
    "a request past IPsec is seen": Sabotage(("2.1-fa-sees-ciphertext",), ((THROUGH_IPSEC, PAST_IPSEC),)),
    "monitoring that is late": Sabotage(("2.1-exit-no-cleartext",), (("monitor=5s", "monitor=60s"),)),
    "data that the gateway forwards": Sabotage(
        ("2.1-fa-data-dropped",), (("node.gw.passes=registrations", "node.gw.passes=everything"),)
    ),
    "a WLAN that the gateway lets in": Sabotage(
        ("2.1-wlan-outside",), (("      outside: wlan\n", "      outside: wlan\n      passes: everything\n"),)
    ),
    "a trusted FA without its tunnel": Sabotage(("fig10-trusted-fa",), ((", peer: gw}", "}"),)),
    "an Intranet that loses a subnet": Sabotage(
        ("2.1-inside-mobility",), ((ROUTES, f"{ROUTES}, 10.0.3.0/24: 10.0.0.99"),)
    ),
}
MORE = {
    "a gateway that forwards registrations": Sabotage(
        ("2.1-fa-cleartext-no-help",), sets=("node.gw.passes=registrations",)
    ),
    # It has a tunnel of its own to the gateway: the home agent is in reach, the link counts as inside.
    "a foreign agent with the keys": Sabotage(
        ("2.1-fa-registration-impossible",),
        (
            (
                "hotspot: {subnet: 198.51.100.0/26, domain: internet",
                "hotspot: {subnet: 198.51.100.0/26, domain: intranet",
            ),
            (FA, FA.replace("]", ", vpn-gateway]")),
            ("settings: {visited: hotspot, care-of: internet}", KEYS),
        ),
    ),
    # Both runs see the same, because the control is sabotaged too: nobody can say anything.
    "a broken control is never success": Sabotage(
        ("2.1-colocated-registers",), sets=("node.gw.passes=everything",), verdict="inconclusive"
    ),
}
LAST = {
    # The binding list cannot be read: neither its absence nor its presence is evidence.
    "a dead daemon decides nothing": Sabotage(
        ("2.1-colocated-registers",),
        (
            (
                REGISTERS,
                REGISTERS.replace(
                    "airport\n", "airport\n        - service: {node: ha, name: home-agent, state: down}\n"
                ),
            ),
        ),
        verdict="inconclusive",
    ),
}
ROUNDS = (SABOTAGES, MORE, LAST)
"""A claim once in each: they are verified together."""


@pytest.fixture(scope="module")
def rounds(verify_all, tmp_path_factory):
    return [sabotaged(verify_all, tmp_path_factory, one.values()) for one in ROUNDS]


@pytest.mark.parametrize(("number", "what"), [(i, what) for i, one in enumerate(ROUNDS) for what in one])
def test_the_verdict(rounds, number, what):
    assert_verdicts(rounds[number], ROUNDS[number][what])


def test_a_broken_control_is_the_reason(rounds):
    found = {one.id: one.reason for one in rounds[1][0].claims}
    assert found["2.1-colocated-registers"].startswith("the control failed")
