"""Home and foreign agent in one node, and a mobile node with several home agents: what their files say."""

import tomllib

import pytest

from testbed.mobileip.io import foreign_agent_toml, home_agent_toml, mobile_node_toml
from testbed.render import Secrets, render_lab
from testbed.topology.load import load_topology

READ = {"home-agent": home_agent_toml, "foreign-agent": foreign_agent_toml, "mobile-node": mobile_node_toml}

TOPOLOGY = """
name: two-agents
title: Home and foreign agent in one node
options: {stack: {default: mip-only}}
networks:
  net: {subnet: 203.0.113.0/24, domain: internet}
  home: {subnet: 192.0.2.0/24, domain: operator}
  cafe: {subnet: 198.51.100.0/26, domain: operator}
  lounge: {subnet: 198.51.100.64/26, domain: operator}
nodes:
  both:
    roles: [router, home-agent, foreign-agent]
    links: {net: 203.0.113.40, home: 192.0.2.1, cafe: 198.51.100.1, lounge: 198.51.100.65}
    settings: {home-network: home, agent: net, visited: [cafe, lounge], care-of: net}
  spare:
    roles: [router, home-agent]
    links: {net: 203.0.113.41, home: 192.0.2.2}
    settings: {home-network: home, agent: net}
  mn:
    roles: [mobile-node]
    attaches: [cafe, lounge, home]
    settings: {home-agent: both, home-address: 192.0.2.100, fallback-agents: [spare], simultaneous: 3s}
"""


@pytest.fixture
def files(tmp_path):
    def files(*sets):
        file = tmp_path / "two-agents.yaml"
        file.write_text(TOPOLOGY)
        return render_lab(
            load_topology(str(file), sets=sets), lab="lab", secrets=Secrets("psk", "00" * 16)
        ).nodes

    return files


@pytest.fixture
def read(files, tmp_path):
    def read(node, daemon, *sets):
        file = tmp_path / f"{daemon}.toml"
        file.write_text(files(*sets)[node].files[f"/etc/mobileip/{daemon}.toml"].content)
        return READ[daemon].read(file)

    return read


def test_two_agents_of_a_node_share_nothing_that_each_needs_alone(read):
    home, foreign = read("both", "home-agent"), read("both", "foreign-agent")
    assert home.instance.shares_port and foreign.instance.shares_port
    assert not {*home.instance.claims} & {*foreign.instance.claims}
    assert home.core.address == foreign.core.care_of
    assert (foreign.core.port, foreign.core.home_agents_here) == (4434, {home.core.address})
    assert foreign.core.care_of in home.core.foreign_agents_here
    assert [link.interface for link in foreign.core.links] == ["cafe", "lounge"]


def test_with_addresses_of_their_own_replies_come_to_port_434(read):
    foreign = read("both", "foreign-agent", "node.both.agent=home")
    assert foreign.core.port == 434 and foreign.instance.shares_port


def test_an_agent_alone_has_the_port_alone(read):
    assert not read("spare", "home-agent").instance.shares_port


def test_a_mobile_node_with_a_spare_home_agent(read):
    mobile, spare = read("mn", "mobile-node").core, read("spare", "home-agent").core
    assert [each.peer for each in mobile.other_home_agents] == [spare.address]
    assert [each.peer for each in spare.mobile_nodes] == [mobile.home_address]
    assert mobile.overlap == 3.0


def test_its_connection_manager_keeps_the_link_that_it_leaves(files):
    def roam(*sets):
        return tomllib.loads(files(*sets)["mn"].files["/etc/testbed/roam.toml"].content)

    assert roam()["simultaneous"] is True
    assert "simultaneous" not in roam("node.mn.simultaneous=0s")
