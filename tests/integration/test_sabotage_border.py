"""Sabotage of scenarios 2.2 to 2.5: every impossibility and every "works" comes out as refuted.

As in `test_sabotage`: the topology is changed as a user would, and the controls stay as they are. All are
verified as one, so that no processor waits for the end of a single one.
"""

import pytest
from claims_world import Sabotage, assert_verdicts, sabotaged

pytestmark = pytest.mark.timeout(600)

ROAMS = "  roams:\n    options: {stack: %s, attach: hotel}"
BYPASSES = "options: {stack: ipsec-in-mip, routing: %s, attach: hotel}"
FA = "  fa-hotspot:\n    roles: [router, foreign-agent]\n    links: {internet: 203.0.113.10,"
DHCP = """  hotspot-router:
    roles: [router, dhcp-server]
    links: {internet: 203.0.113.11, hotspot: 198.51.100.2}
    settings: {dhcp-pool: 198.51.100.10-198.51.100.50}
"""
ROUND = "- move: {to: [%s], times: 2}"
BOXES = "settings: {outside: %s, protects: 10.0.0.0/8, inner-pool: 10.0.25$n.0/24"


SABOTAGES = {
    "a home agent that answers on its private side only, and is not in the way of what is sent": Sabotage(
        ("2.2-ha-reachable", "2.2-always-away", "2.2-dmz-hairpin"),
        sets=("node.ha.agent=backbone", "node.mn.reverse-tunnel=false"),
    ),
    "DHCP beside the foreign agent": Sabotage(("2.2-mip-in-ipsec-fa",), ((FA, DHCP + FA),)),
    "DHCP beside the foreign agent, in 2.5": Sabotage(("2.5-mip-in-ipsec-fa",), ((FA, DHCP + FA),)),
    "moves inside only": Sabotage(
        ("2.2-mip-in-ipsec-renegotiates",), ((ROUND % "airport, hotel", ROUND % "campus, office"),)
    ),
    "moves inside only, in 2.5": Sabotage(
        ("2.5-mip-in-ipsec-renegotiates",), ((ROUND % "airport, hotel", ROUND % "campus, office"),)
    ),
    "routing that is not adapted": Sabotage(
        ("2.2-ipsec-in-mip-mobile",),
        ((ROAMS % "ipsec-in-mip", ROAMS % "ipsec-in-mip, routing: unmodified"),),
    ),
    "routing that is adapted": Sabotage(
        ("2.2-ipsec-in-mip-needs-routing",), ((BYPASSES % "unmodified", BYPASSES % "adapted"),)
    ),
    "no IPsec where one box wants it": Sabotage(
        ("2.3-routing-resolved",), ((ROAMS % "ipsec-in-mip", ROAMS % "mip-only"),)
    ),
    "two boxes": Sabotage(
        ("2.3-single-box",),
        (
            (
                "drawback: single-vendor\n    run:\n",
                "drawback: single-vendor\n    run:\n      topology: scenario-2.2\n",
            ),
        ),
    ),
    "an Internet that loses everything": Sabotage(
        ("2.4-registers-without-ipsec",), sets=("network.internet.loss=100%",)
    ),
    "no IPsec where the gateway wants it": Sabotage(
        ("2.4-ipsec-in-mip-mobile",), ((ROAMS % "ipsec-in-mip", ROAMS % "mip-only"),)
    ),
    "a gateway that lets the inside out": Sabotage(
        ("2.4-no-mobility-inside",), sets=("node.gw.passes=everything",)
    ),
    "IPsec outermost": Sabotage(
        ("2.5-ipsec-in-mip-works",), ((ROAMS % "ipsec-in-mip", ROAMS % "mip-in-ipsec"),)
    ),
    "gateways that turn their back to the outside": Sabotage(
        ("2.5-perimeter-grows",), ((BOXES % "public", BOXES % "link-$n"),)
    ),
}


@pytest.fixture(scope="module")
def everything(verify_all, tmp_path_factory):
    return sabotaged(verify_all, tmp_path_factory, SABOTAGES.values())


@pytest.mark.parametrize("what", SABOTAGES)
def test_it_is_refuted(everything, what):
    assert_verdicts(everything, SABOTAGES[what])
