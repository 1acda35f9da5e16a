"""Sabotage: what contradicts the document must come out as refuted.

Each sabotage changes the topology the way a user would, with `--set` or in a copy of the file, and leaves the
claims and their controls as they are (where a claim's own run asks for what is sabotaged, the run).
"""

import pytest
from claims_world import reasons, scenario, verdicts

pytestmark = pytest.mark.timeout(600)


def assert_refuted(result, *claims):
    assert verdicts(result) == dict.fromkeys(claims, "refuted"), reasons(result)


def test_a_gateway_that_forwards_everything(verify):
    claims = ["2.1-gateway-guards", "2.1-fa-cleartext-no-help"]
    assert_refuted(verify("scenario-2.1", claims, ["node.gw.passes=everything"]), *claims)


def test_a_gateway_that_forwards_registrations(verify):
    claims = ["2.1-fa-cleartext-no-help"]
    assert_refuted(verify("scenario-2.1", claims, ["node.gw.passes=registrations"]), *claims)


def test_ipsec_off(verify, tmp_path):
    file = scenario(tmp_path, ("options: {stack: mip-in-ipsec", "options: {stack: mip-only"))
    claims = ["2.1-colocated-registers", "2.1-colocated-renegotiates"]
    assert_refuted(verify(file, claims), *claims)


def test_dhcp_on_the_link_of_the_foreign_agent(verify, tmp_path):
    router = """  hotspot-router:
    roles: [router, dhcp-server]
    links: {internet: 203.0.113.11, hotspot: 198.51.100.2}
    settings: {dhcp-pool: 198.51.100.10-198.51.100.50}
  gw:
"""
    file = scenario(tmp_path, ("  gw:\n", router))
    claims = ["2.1-fa-registration-impossible", "2.1-fa-blocks-ipsec"]
    assert_refuted(verify(file, claims), *claims)


def test_a_foreign_agent_with_the_keys(verify, tmp_path):
    """It has a tunnel of its own to the gateway: the home agent is in reach, the link counts as inside."""
    file = scenario(
        tmp_path,
        (
            "hotspot: {subnet: 198.51.100.0/26, domain: internet",
            "hotspot: {subnet: 198.51.100.0/26, domain: intranet",
        ),
        (
            "  fa-hotspot:\n    roles: [router, foreign-agent]",
            "  fa-hotspot:\n    roles: [router, foreign-agent, vpn-gateway]",
        ),
        (
            "settings: {visited: hotspot, care-of: internet}",
            "settings: {visited: hotspot, care-of: hotspot, peer: gw, outside: internet,"
            " protects: 198.51.100.0/26}",
        ),
    )
    claims = ["2.1-fa-registration-impossible"]
    assert_refuted(verify(file, claims), *claims)


def test_a_bypass_lets_the_mobile_node_hear(verify, tmp_path):
    file = scenario(tmp_path, ('bypass: "off"', 'bypass: "on"'))
    claims = ["2.1-fa-mn-deaf"]
    assert_refuted(verify(file, claims), *claims)


def test_a_request_past_ipsec_is_seen(verify, tmp_path):
    file = scenario(
        tmp_path, ("register: {through: ipsec, within: 2s}", "register: {through: hotspot, within: 2s}")
    )
    claims = ["2.1-fa-sees-ciphertext"]
    assert_refuted(verify(file, claims), *claims)


def test_data_that_the_gateway_forwards(verify, tmp_path):
    file = scenario(tmp_path, ("node.gw.passes=registrations", "node.gw.passes=everything"))
    claims = ["2.1-fa-data-dropped"]
    assert_refuted(verify(file, claims), *claims)


def test_a_wlan_that_the_gateway_lets_in(verify, tmp_path):
    file = scenario(tmp_path, ("      outside: wlan\n", "      outside: wlan\n      passes: everything\n"))
    claims = ["2.1-wlan-outside"]
    assert_refuted(verify(file, claims), *claims)


def test_a_trusted_fa_without_its_tunnel(verify, tmp_path):
    file = scenario(tmp_path, (", peer: gw}", "}"))
    claims = ["fig10-trusted-fa"]
    assert_refuted(verify(file, claims), *claims)


def test_an_intranet_that_loses_a_subnet(verify, tmp_path):
    old = "links: {backbone: 10.0.0.2}\n    routes: {default: 10.0.0.1"
    file = scenario(tmp_path, (old, f"{old}, 10.0.3.0/24: 10.0.0.99"))
    claims = ["2.1-inside-mobility"]
    assert_refuted(verify(file, claims), *claims)


def test_a_broken_control_is_never_success(verify):
    """Both runs see the same, because the control is sabotaged too: nobody can say anything."""
    result = verify("scenario-2.1", ["2.1-colocated-registers"], ["node.gw.passes=everything"])
    assert verdicts(result) == {"2.1-colocated-registers": "inconclusive"}
    assert "control" in result[0]["claims"][0]["reason"]


def test_a_dead_daemon_decides_nothing(verify, tmp_path):
    """The binding list cannot be read: neither its absence nor its presence is evidence."""
    step = "        - move: airport\n      expect:\n        - mobile-node: {state: registered"
    dead = step.replace(
        "      expect", "        - service: {node: ha, name: home-agent, state: down}\n      expect"
    )
    file = scenario(tmp_path, (step, dead))
    result = verify(file, ["2.1-colocated-registers"])
    assert verdicts(result) == {"2.1-colocated-registers": "inconclusive"}
