"""Sabotage of scenarios 2.2 to 2.5: every impossibility and every "works" comes out as refuted.

As in `test_sabotage`; several claims and scenarios that the same change contradicts are verified together.
"""

import pytest
from claims_world import reasons, scenario, verdicts

pytestmark = pytest.mark.timeout(600)


def assert_refuted(result, *claims):
    assert verdicts(result) == dict.fromkeys(claims, "refuted"), reasons(result)


def test_no_ipsec_inside_the_tunnel(verify_all, tmp_path):
    """IPsec left out where the gateway beside, in or behind the home agent wants it; outermost in 2.5."""
    roams = "  roams:\n    options: {stack: %s, attach: hotel}"
    folder = scenario(tmp_path, (roams % "ipsec-in-mip", roams % "mip-only")).parent
    other = scenario(tmp_path / "other", (roams % "ipsec-in-mip", roams % "mip-in-ipsec")).parent
    result = verify_all(
        [
            (folder / "scenario-2.2.yaml", ["2.2-ipsec-in-mip-mobile"], ()),
            (folder / "scenario-2.3.yaml", ["2.3-routing-resolved"], ()),
            (folder / "scenario-2.4.yaml", ["2.4-ipsec-in-mip-mobile"], ()),
            (other / "scenario-2.5.yaml", ["2.5-ipsec-in-mip-works"], ()),
        ]
    )
    assert_refuted(
        result,
        *("2.2-ipsec-in-mip-mobile", "2.3-routing-resolved", "2.4-ipsec-in-mip-mobile"),
        "2.5-ipsec-in-mip-works",
    )


def test_routing_that_is_not_what_the_claim_says(verify_all, tmp_path):
    """Unmodified where it has to be adapted, and adapted where it has to fail unmodified."""
    unmodified = "options: {stack: ipsec-in-mip, routing: unmodified, attach: hotel}"
    mobile = scenario(
        tmp_path,
        ("roams:\n    options: {stack: ipsec-in-mip, attach: hotel}", f"roams:\n    {unmodified}"),
    )
    needs = scenario(tmp_path / "other", (unmodified, unmodified.replace("unmodified", "adapted")))
    result = verify_all(
        [
            (mobile.parent / "scenario-2.2.yaml", ["2.2-ipsec-in-mip-mobile"], ()),
            (needs.parent / "scenario-2.2.yaml", ["2.2-ipsec-in-mip-needs-routing"], ()),
        ]
    )
    assert_refuted(result, "2.2-ipsec-in-mip-mobile", "2.2-ipsec-in-mip-needs-routing")


def test_a_home_agent_that_the_outside_does_not_reach(verify_all):
    """It answers on its private address only; and what the mobile node sends does not go through it."""
    claims = ["2.2-ha-reachable", "2.2-always-away", "2.2-dmz-hairpin"]
    sets = ["node.ha.agent=backbone", "node.mn.reverse-tunnel=false"]
    lost = ["2.4-registers-without-ipsec"]
    result = verify_all(
        [("scenario-2.2", claims, sets), ("scenario-2.4", lost, ["network.internet.loss=100%"])]
    )
    assert_refuted(result, *claims, *lost)


def test_mip_in_ipsec_that_is_spared_its_problems(verify_all, tmp_path):
    """DHCP beside the foreign agent, and moves inside, where there is no IPsec to negotiate."""
    dhcp = "roles: [router, foreign-agent]\n    links: {internet: 203.0.113.10, hotspot: 198.51.100.1}\n"
    router = """  hotspot-router:
    roles: [router, dhcp-server]
    links: {internet: 203.0.113.11, hotspot: 198.51.100.2}
    settings: {dhcp-pool: 198.51.100.10-198.51.100.50}
"""
    beside = scenario(tmp_path, (f"  fa-hotspot:\n    {dhcp}", f"{router}  fa-hotspot:\n    {dhcp}"))
    abroad, inside = "- move: {to: [airport, hotel], times: 2}", "- move: {to: [campus, office], times: 2}"
    inside = scenario(tmp_path / "other", (abroad, inside))
    result = verify_all(
        [
            (beside.parent / "scenario-2.2.yaml", ["2.2-mip-in-ipsec-fa"], ()),
            (beside.parent / "scenario-2.5.yaml", ["2.5-mip-in-ipsec-fa"], ()),
            (inside.parent / "scenario-2.2.yaml", ["2.2-mip-in-ipsec-renegotiates"], ()),
            (inside.parent / "scenario-2.5.yaml", ["2.5-mip-in-ipsec-renegotiates"], ()),
        ]
    )
    assert_refuted(
        result,
        *("2.2-mip-in-ipsec-fa", "2.5-mip-in-ipsec-fa"),
        *("2.2-mip-in-ipsec-renegotiates", "2.5-mip-in-ipsec-renegotiates"),
    )


def test_two_boxes(verify_all, tmp_path):
    file = scenario(
        tmp_path,
        (
            "drawback: single-vendor\n    run:\n",
            "drawback: single-vendor\n    run:\n      topology: scenario-2.2\n",
        ),
    )
    claims = ["2.3-single-box"]
    assert_refuted(verify_all([(file.parent / "scenario-2.3.yaml", claims, ())]), *claims)


def test_a_gateway_that_lets_the_inside_out(verify_all):
    claims = ["2.4-no-mobility-inside"]
    assert_refuted(verify_all([("scenario-2.4", claims, ["node.gw.passes=everything"])]), *claims)


def test_gateways_that_are_not_exposed(verify_all, tmp_path):
    """Those of the further links turn their back to the outside."""
    boxes = "settings: {outside: %s, protects: 10.0.0.0/8, inner-pool: 10.0.25$n.0/24"
    file = scenario(tmp_path, (boxes % "public", boxes % "link-$n"))
    claims = ["2.5-perimeter-grows"]
    assert_refuted(verify_all([(file.parent / "scenario-2.5.yaml", claims, ())]), *claims)
