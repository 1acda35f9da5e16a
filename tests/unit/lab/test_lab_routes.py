"""Routers that stay while another is replaced: a lab is ready when they have their routes again."""

from ipaddress import IPv4Network

import pytest
from lab_world import IMAGE, Told

from testbed.engine.fake import FakeEngine
from testbed.errors import NotReadyError
from testbed.lab.up import bring_up
from testbed.topology.load import load_topology

POOL = IPv4Network("198.18.0.0/20")

ROUTERS = """\
name: routers
title: Three that learn routes, and one that does not
networks:
  middle: {subnet: 10.0.0.0/24, domain: intranet}
  one: {subnet: 10.0.1.0/24, domain: intranet}
  two: {subnet: 10.0.2.0/24, domain: intranet}
nodes:
  r1: {roles: [router, ospf], links: {middle: 10.0.0.1, one: 10.0.1.1}}
  r2: {roles: [router, ospf], links: {middle: 10.0.0.2, two: 10.0.2.1}}
  r3: {roles: [router, ospf], links: {middle: 10.0.0.3}}
  host: {roles: [correspondent], links: {one: 10.0.1.9}}
"""


@pytest.fixture
def waited():
    return []


@pytest.fixture
def lab(tmp_path, waited):
    """A lab in which `waited` says which routers were asked for their routes, and `lost` who has none."""
    file = tmp_path / "routers.yaml"
    file.write_text(ROUTERS)

    def command(box, words, stdin):
        if words[0] == "timeout":
            assert words[2:4] == ("sh", "-c") and words[4].startswith("until /etc/bird/converged; do")
            waited.append(box.spec.hostname)
            return b"", b"", 124 if box.spec.hostname in command.lost else 0
        return b"", b"", 0

    command.lost = set()
    engine = FakeEngine(command=command)
    topology = load_topology(str(file))
    told = Told()

    def up():
        return bring_up(engine, topology, lab="x", image=IMAGE, pool=POOL, progress=told, timeout=5.0)

    up.engine, up.command, up.told = engine, command, told
    return up


@pytest.mark.parametrize(
    ("replaced", "asked"), [("r1", ["r2", "r3"]), ("host", []), (None, [])], ids=["router", "host", "none"]
)
def test_the_other_routers_are_waited_for(lab, waited, replaced, asked):
    lab()
    assert waited == [] and "waiting for routes" not in lab.told.shown  # all came up together
    if replaced:
        lab.engine.box(replaced).stop()
    lab()
    assert sorted(waited) == asked


def test_a_router_without_its_routes_is_named(lab):
    lab()
    lab.engine.box("r1").stop()
    lab.command.lost = {"r3"}
    with pytest.raises(NotReadyError, match="r3 does not find its ways through r1") as caught:
        lab()
    assert caught.value.hint == "testbed logs x r3"


def test_a_node_that_does_not_take_its_files_is_named(lab, tmp_path):
    lab()
    lab.engine.box("r1").stop()
    before = lab.engine.command
    refuses = (b"", b"sh: 1: cannot create /etc/hosts: Read-only file system\n", 2)
    lab.engine.command = lambda box, words, stdin: (
        refuses
        if box.spec.hostname == "host" and "ip neighbour flush all" in words[-1]
        else before(box, words, stdin)
    )
    with pytest.raises(
        NotReadyError, match=r"host does not take /etc/motd, /etc/testbed/hosts: .* Read-only file system"
    ):
        lab()
