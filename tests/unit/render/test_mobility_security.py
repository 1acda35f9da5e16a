"""What agents and mobile nodes share beyond the mobile-home association: one side's files fit the other's."""

from pathlib import Path

import pytest

from testbed.mobileip.io import foreign_agent_toml, home_agent_toml, mobile_node_toml
from testbed.render import Secrets, render_lab
from testbed.topology.load import load_topology

READ = {
    "home-agent": home_agent_toml.read,
    "foreign-agent": foreign_agent_toml.read,
    "mobile-node": mobile_node_toml.read,
}


@pytest.fixture
def configured(tmp_path: Path):
    def read(*sets: str):
        lab = render_lab(load_topology("plain-mip", sets=sets), lab="lab", secrets=Secrets("psk", "0a0b" * 8))
        cores = []
        for node, role in (("ha", "home-agent"), ("fa-hotspot", "foreign-agent"), ("mn", "mobile-node")):
            file = tmp_path / f"{role}.toml"
            file.write_text(lab.nodes[node].files[f"/etc/mobileip/{role}.toml"].content)
            cores.append(READ[role](file).core)
        return cores

    return read


def test_by_default_there_is_neither_revocation_nor_challenge(configured):
    ha, fa, mn = configured()
    assert (ha.foreign_agents, fa.home_agents, fa.revocation, mn.revocation) == ((), (), False, False)
    assert (fa.challenge_window, fa.aaa, mn.aaa) == (0, (), None)


def test_agents_that_revoke_share_an_association(configured):
    ha, fa, mn = configured("node.fa-hotspot.revocation=true", "node.mn.revocation=true")
    assert fa.revocation and mn.revocation
    (ours,), (theirs,) = fa.home_agents, ha.foreign_agents
    assert (ours.spi, ours.key) == (theirs.spi, theirs.key)
    assert (ours.peer, theirs.peer) == (ha.address, fa.care_of)


def test_an_agent_with_challenges_has_the_keys_that_answer_them(configured):
    _, fa, mn = configured("node.fa-hotspot.challenges=true", "node.mn.aaa-key=true")
    assert fa.challenge_window == 2 and fa.aaa == (mn.aaa,)
    _, fa, mn = configured("node.fa-hotspot.challenges=true")
    assert fa.challenge_window == 2 and fa.aaa == () and mn.aaa is None
