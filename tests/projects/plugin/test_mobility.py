"""Tests of a project that has nothing but the plugin; tests/integration/test_plugin.py runs them."""

import pytest

from testbed.errors import UsageError
from testbed.packet.layers import MobileIp
from testbed.pytest_plugin import Lab, LabFactory

pytestmark = pytest.mark.testbed("mine.yaml")


def bindings(lab: Lab) -> list[dict[str, object]]:
    agent = lab.node("ha").state()["home-agent"]
    assert agent is not None
    found: list[dict[str, object]] = agent["bindings"]
    return found


def test_away_it_registers(lab: Lab) -> None:
    assert not bindings(lab)
    with lab.capture("mn/away", "ha/away", filter="udp port 434") as packets:
        moved = lab.move("mn", "away")
    assert moved.state == "registered", moved
    assert moved.address is not None and moved.registration is not None
    assert moved.address < moved.registration
    assert len(packets) >= 4 and all(packet.first(MobileIp) for packet in packets), packets
    assert "registration reply accepted" in repr(packets)
    assert [one["home_address"] for one in bindings(lab)] == ["192.0.2.100"]


def test_at_home_it_needs_no_binding(lab: Lab) -> None:
    assert not bindings(lab)
    assert lab.move("mn", "home").state == "at-home"
    assert not bindings(lab)
    assert [event.fields["state"] for event in lab.events if event.name == "settled"] == ["at-home"]
    assert lab.exec("mn", "ping", "-c", "1", "-W", "2", "ha").code == 0


def test_what_another_test_broke_is_mended(lab: Lab) -> None:
    assert lab.exec("ha", "ip", "link", "set", "home", "down").code == 0


@pytest.mark.parametrize("network", ["away", "home"])
def test_a_mended_lab_works(lab: Lab, network: str) -> None:
    assert lab.exec("ha", "cat", "/sys/class/net/home/operstate").text == "up\n"
    assert lab.move("mn", network).state != "unregistered"


@pytest.fixture(scope="module")
def kept(testbed_lab: LabFactory) -> Lab:
    """A lab for all tests of the file that ask for it."""
    lab = testbed_lab("mine.yaml", attach="away")
    lab.move("mn", "away")
    return lab


def test_a_fixture_has_a_lab_as_long_as_it_lives(kept: Lab) -> None:
    assert len(bindings(kept)) == 1


def test_it_has_it_still(kept: Lab) -> None:
    assert len(bindings(kept)) == 1
    with pytest.raises(UsageError, match="no network awy"):
        kept.move("mn", "awy")


def test_a_claim_is_decided(lab: Lab) -> None:
    decided = lab.verify("at-home")
    assert decided.verdict == "reproduced", decided.reason
