"""A node compared with another topology's: what is found, and what the words of claims make of it."""

import pytest
from experiment_world import PlayedLab

from testbed.claim.expect.changed import Added, Changed
from testbed.claim.expect.combined import Combined
from testbed.claim.sight import Sight
from testbed.errors import StepError
from testbed.experiment.claims.differences import node_differences, other_topology
from testbed.experiment.claims.observer import LabLooker
from testbed.lab.inside import Done

NOTHING = "solutions/nothing"


@pytest.fixture(scope="module")
def nothing():
    return PlayedLab(NOTHING, ["option.attach=cafe"])


@pytest.fixture(scope="module")
def trusted():
    return PlayedLab("solutions/trusted-fa")


def decide(word, lab):
    """What a word decides of a lab, as it is recorded in between."""
    seen = word.look(LabLooker(lab))
    assert word.is_sight(seen)
    return word.judge(Sight(facts=lab.topology, wires=None, seen=seen))


def changed(node="gw", than=NOTHING, **more):
    wanted = more if {"none", "at-least"} & more.keys() else {**more, "none": True}
    return Changed.model_validate({"node": node, "than": than, **wanted})


@pytest.mark.parametrize("what", ["configuration", "services", "software"])
@pytest.mark.parametrize("node", ["gw", "mn", "ha", "fa-hotspot"])
def test_a_topology_is_as_itself_with_the_same_options(node, what, nothing) -> None:
    assert node_differences(nothing, node, other_topology(nothing.topology, NOTHING), node, what) == {}


def test_files_and_services_of_another_foreign_agent(trusted) -> None:
    decision = decide(changed("fa-hotspot", what="configuration"), trusted)
    assert decision.held is False and "/etc/swanctl/swanctl.conf" in decision.observed
    assert decide(changed("fa-hotspot", what="services"), trusted).observed == "charon added"
    assert decide(changed("fa-hotspot", what="services", **{"at-least": 1}), trusted).held is True
    only = changed("fa-hotspot", what="configuration", only=["/etc/mobileip/*"])
    assert decide(only, trusted).observed.endswith("; /etc/mobileip/foreign-agent.toml 2")


def test_names_of_hosts_do_not_count(trusted) -> None:
    """The files are not the same, as nodes may be there whose names the hosts file has."""
    other = PlayedLab("scenario-2.1")
    found = node_differences(other, "gw", other_topology(other.topology, NOTHING), "gw", "configuration")
    assert not {"/etc/testbed/hosts", "/etc/testbed/node.json", "/etc/motd"} & found.keys()


def test_a_service_that_is_gone_and_a_service_that_is_run_otherwise(nothing) -> None:
    plain = PlayedLab("plain-mip")
    assert decide(changed("mn", what="services", only="charon"), plain).observed == "charon removed"
    sabotaged = PlayedLab(NOTHING)
    there = other_topology(sabotaged.topology, "scenario-2.3")
    assert node_differences(sabotaged, "gw", there, "gw", "services") == {"home-agent": "removed"}


VERIFIED = b"""\
missing     /usr/share/doc/bash/NEWS.gz
??5?????? c /etc/strongswan.conf
??5??????   /usr/lib/ipsec/libcharon.so.0
.M.......   /usr/bin/wg
"""


def test_software_is_what_packages_have(nothing) -> None:
    lab = PlayedLab(NOTHING)
    lab.outputs["--verify"] = Done(0, VERIFIED, b"")
    decision = decide(changed(what="software"), lab)
    assert decision.observed == "/usr/lib/ipsec/libcharon.so.0 not as its package has it"
    assert decision.held is False and lab.ran[-1] == ("gw", ["dpkg", "--verify"])


def test_a_node_that_has_no_packages(nothing) -> None:
    lab = PlayedLab(NOTHING)
    lab.outputs["--verify"] = Done(127, b"", b"dpkg: not found")
    with pytest.raises(StepError, match="gw does not report its packages: dpkg: not found"):
        changed(what="software").look(LabLooker(lab))


def test_another_image() -> None:
    lab = PlayedLab(NOTHING, ["node.gw.image=acme/gw:1"])
    assert decide(changed(what="software"), lab).observed == "image acme/gw:1 instead of the testbed’s"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (changed(than="nothing", what="services"), "there is no built-in topology nothing"),
        (changed(than="plain-mip", what="services"), "plain-mip has no node gw"),
    ],
)
def test_what_there_is_nothing_to_compare_with(word, message, nothing) -> None:
    with pytest.raises(StepError, match=message):
        word.look(LabLooker(nothing))


# Roles


def test_nodes_with_more_roles(trusted, nothing) -> None:
    word = Added.model_validate({"than": NOTHING, "none": True})
    assert decide(word, trusted).observed == "fa-hotspot: vpn-gateway"
    assert decide(word, nothing).held is True
    besides = Added.model_validate({"than": NOTHING, "besides": ["foreign-agent"], "none": True})
    assert decide(besides, trusted).held is True
    new = PlayedLab("scenario-2.5")
    assert decide(besides, new).observed == "firewall: router, ospf, firewall; gw: home-agent"


def test_several_parts_in_one_machine(trusted, nothing) -> None:
    word = Combined.model_validate({"of": ["vpn-gateway", "home-agent", "foreign-agent"], "none": True})
    assert decide(word, nothing).held is True
    assert decide(word, trusted).observed == "fa-hotspot: vpn-gateway and foreign-agent"
    assert decide(word, PlayedLab("scenario-2.3")).observed == "gw: vpn-gateway and home-agent"
