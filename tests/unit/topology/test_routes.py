from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from testbed.errors import TestbedError
from testbed.topology.load import load_topology
from testbed.topology.names import topology_names
from testbed.topology.routes import static_routes


def table(ref: str) -> dict[str, list[str]]:
    loaded = load_topology(ref)
    return {name: [str(route) for route in static_routes(loaded, name)] for name in loaded.topology.nodes}


TO_CORE = ["default via 203.0.113.1 dev internet onlink"]


def test_scenario_2_1() -> None:
    assert table("scenario-2.1") == {
        "core": [
            "10.0.0.0/8 via 203.0.113.2 dev internet",
            "198.51.100.0/26 via 203.0.113.10 dev internet",
            "198.51.100.64/26 via 203.0.113.20 dev internet",
            "198.51.100.128/26 via 203.0.113.30 dev internet",
        ],
        "fa-hotspot": TO_CORE,
        "hotel-router": TO_CORE,
        "airport-router": TO_CORE,
        "gw": TO_CORE,
        "r1": ["default via 10.0.0.1 dev backbone"],
        "r2": ["default via 10.0.0.1 dev backbone"],
        "fa-office": ["default via 10.0.0.1 dev backbone"],
        "ha": ["default via 10.0.1.1 dev home"],
        "cn": ["default via 10.0.4.1 dev servers"],
        "mn": [],
    }


def test_plain_mip() -> None:
    assert table("plain-mip") == {
        "core": [
            "192.0.2.0/24 via 203.0.113.40 dev internet",
            "198.51.100.0/26 via 203.0.113.10 dev internet",
            "198.51.100.64/26 via 203.0.113.20 dev internet",
            "198.51.100.128/26 via 203.0.113.30 dev internet",
        ],
        "fa-hotspot": TO_CORE,
        "hotel-router": TO_CORE,
        "airport-router": TO_CORE,
        "ha": TO_CORE,
        "cn": ["default via 192.0.2.1 dev home"],
        "mn": [],
    }


HEAD = "name: mine\ntitle: Mine\n"


def written(tmp_path: Path, text: str) -> dict[str, list[str]]:
    file = tmp_path / "mine.yaml"
    file.write_text(HEAD + text)
    return table(str(file))


def test_static_intranet_behind_a_border_router(tmp_path: Path) -> None:
    """Inside, every network and a default route to the border; outside nothing of the Intranet."""
    routes = written(
        tmp_path,
        """\
networks:
  internet: {subnet: 203.0.113.0/24, domain: internet, hub: core}
  far: {subnet: 198.51.100.0/24, domain: internet}
  dmz: {subnet: 192.0.2.0/24, domain: dmz}
  a: {subnet: 10.0.0.0/24, domain: intranet}
  b: {subnet: 10.0.1.0/24, domain: intranet}
  c: {subnet: 10.0.2.0/24, domain: intranet}
nodes:
  core: {roles: [router, hub], links: {internet: 203.0.113.1}}
  far-router: {roles: [router], links: {internet: 203.0.113.2, far: 198.51.100.1}}
  edge: {roles: [router], links: {internet: 203.0.113.3, dmz: 192.0.2.1}}
  border: {roles: [router], links: {dmz: 192.0.2.2, a: 10.0.0.1}}
  middle: {roles: [router], links: {a: 10.0.0.2, b: 10.0.1.1}}
  last: {roles: [router], links: {b: 10.0.1.2, c: 10.0.2.1}}
  host: {roles: [correspondent], links: {c: 10.0.2.10}}
  in-dmz: {roles: [correspondent], links: {dmz: 192.0.2.10}}
  on-a: {roles: [correspondent], links: {a: 10.0.0.10}}
""",
    )
    assert routes == {
        "core": ["192.0.2.0/24 via 203.0.113.3 dev internet", "198.51.100.0/24 via 203.0.113.2 dev internet"],
        "far-router": TO_CORE,
        "edge": TO_CORE,
        "border": [
            "default via 192.0.2.1 dev dmz",
            "10.0.1.0/24 via 10.0.0.2 dev a",
            "10.0.2.0/24 via 10.0.0.2 dev a",
        ],
        "middle": ["default via 10.0.0.1 dev a", "10.0.2.0/24 via 10.0.1.2 dev b"],
        "last": ["default via 10.0.1.1 dev b"],
        "host": ["default via 10.0.2.1 dev c"],
        "in-dmz": ["default via 192.0.2.1 dev dmz"],
        "on-a": ["default via 10.0.0.2 dev a"],
    }


def test_prefixes_without_a_link(tmp_path: Path) -> None:
    """A virtual home network is known outside unless it is of the Intranet; an inner pool inside only."""
    text = """\
networks:
  internet: {subnet: 203.0.113.0/24, domain: internet, hub: core}
  inside: {subnet: 10.0.0.0/24, domain: intranet}
  deep: {subnet: 10.0.1.0/24, domain: intranet}
  air: {subnet: 198.51.100.0/24, domain: internet}
nodes:
  core: {roles: [router, hub], links: {internet: 203.0.113.1}}
  gw:
    roles: [router, vpn-gateway]
    links: {internet: 203.0.113.2, inside: 10.0.0.1}
    settings: {outside: internet, protects: 10.0.0.0/8, inner-pool: 10.0.250.0/24}
  r1: {roles: [router], links: {inside: 10.0.0.2, deep: 10.0.1.1}}
  ha:
    roles: [router, home-agent]
    links: {internet: 203.0.113.3, inside: 10.0.0.3}
    settings: {virtual-home: HOME}
  air-router: {roles: [router], links: {internet: 203.0.113.4, air: 198.51.100.1}}
  mn: {roles: [mobile-node], attaches: [air], settings: {home-agent: ha, home-address: ADDRESS}}
options: {stack: {default: mip-only}}
"""
    public = written(tmp_path, text.replace("HOME", "192.0.2.0/24").replace("ADDRESS", "192.0.2.9"))
    assert "192.0.2.0/24 via 203.0.113.3 dev internet" in public["core"]
    assert public["r1"] == ["default via 10.0.0.1 dev inside"], (
        "what the default route covers is not repeated"
    )
    assert "10.0.250.0/24 via 10.0.0.1 dev inside" in public["ha"]
    assert not any(route.startswith("10.") for route in public["core"])
    private = written(tmp_path, text.replace("HOME", "10.0.200.0/24").replace("ADDRESS", "10.0.200.9"))
    assert "10.0.200.0/24 via 10.0.0.3 dev inside" in private["r1"]
    assert "10.0.200.0/24 via 10.0.0.3 dev inside" in private["gw"]
    assert not any(route.startswith("10.") for route in private["core"])


def test_routes_as_written_win(tmp_path: Path) -> None:
    routes = written(
        tmp_path,
        """\
networks:
  internet: {subnet: 203.0.113.0/24, domain: internet, hub: core}
  a: {subnet: 198.51.100.0/26, domain: internet}
nodes:
  core: {roles: [router, hub], links: {internet: 203.0.113.1}, routes: {198.51.100.0/26: 203.0.113.3}}
  one: {roles: [router], links: {internet: 203.0.113.2, a: 198.51.100.1}, routes: {default: 198.51.100.2}}
  two: {roles: [router], links: {internet: 203.0.113.3, a: 198.51.100.2}, routes: {192.0.2.0/24: 203.0.113.2}}
""",
    )
    assert routes["core"] == ["198.51.100.0/26 via 203.0.113.3 dev internet"]
    assert routes["one"] == ["default via 198.51.100.2 dev a"]
    assert routes["two"] == [*TO_CORE, "192.0.2.0/24 via 203.0.113.2 dev internet onlink"]


@pytest.mark.parametrize("name", ["scenario-2.1", "plain-mip"])
def test_commands_can_be_run_again(name: str) -> None:
    loaded = load_topology(name)
    for node in loaded.topology.nodes:
        for route in static_routes(loaded, node):
            assert route.command == f"route replace {route}"


NATS = """\
networks:
  internet: {subnet: 203.0.113.0/24, domain: internet, hub: core}
  cafe: {subnet: 192.168.1.0/24, domain: internet}
  bar: {subnet: 192.168.1.0/24, domain: internet}
  cellar: {subnet: 192.168.2.0/24, domain: internet}
nodes:
  core: {roles: [router, hub], links: {internet: 203.0.113.1}}
  cafe-nat:
    roles: [router, nat]
    links: {internet: 203.0.113.2, cafe: 192.168.1.1}
    settings: {outside: internet, private: cafe}
  bar-nat:
    roles: [router, nat]
    links: {internet: 203.0.113.3, bar: 192.168.1.1}
    settings: {outside: internet, private: bar}
  cafe-router: {roles: [router], links: {cafe: 192.168.1.2, cellar: 192.168.2.1}}
  server: {roles: [correspondent], links: {cellar: 192.168.2.10}}
"""


def test_what_is_behind_a_nat_is_known_to_the_nat_alone(tmp_path: Path) -> None:
    """Two NATs may hide the same prefix; one also hides what is behind a router of its own."""
    behind = ["192.168.2.0/24 via 192.168.1.2 dev cafe"]
    assert written(tmp_path, NATS) == {
        "core": [],
        "cafe-nat": TO_CORE + behind,
        "bar-nat": TO_CORE,
        "cafe-router": ["default via 192.168.1.1 dev cafe"],
        "server": ["default via 192.168.2.1 dev cellar"],
    }


HIDES = "    settings: {outside: internet, private: %s}\n"


def test_without_nats_everybody_knows_it(tmp_path: Path) -> None:
    plain = NATS.replace(HIDES % "cafe", "").replace(HIDES % "bar", "").replace(", nat]", "]")
    plain = plain.replace("bar: {subnet: 192.168.1.0", "bar: {subnet: 192.168.3.0")
    assert written(tmp_path, plain.replace("bar: 192.168.1.1", "bar: 192.168.3.1"))["core"] == [
        "192.168.1.0/24 via 203.0.113.2 dev internet",
        "192.168.2.0/24 via 203.0.113.2 dev internet",
        "192.168.3.0/24 via 203.0.113.3 dev internet",
    ]


@pytest.mark.parametrize(
    "change",
    [
        ("[router, nat]\n    links: {internet: 203.0.113.3, bar: 192.168.1.1}\n" + HIDES % "bar",
         "[router]\n    links: {internet: 203.0.113.3, bar: 192.168.1.1}\n"),
        ("  server:", "  spy: {roles: [router], links: {cafe: 192.168.1.5, bar: 192.168.1.6}}\n  server:"),
        ("bar: {subnet: 192.168.1.0/24", "bar: {subnet: 203.0.113.0/25"),
    ],
    ids=["a network that no NAT hides", "a node on both", "a network of the Internet"],
)  # fmt: skip
def test_the_same_addresses_twice_are_ambiguous_but_behind_two_nats(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    changed = NATS.replace(*change)
    assert changed != NATS
    with pytest.raises(TestbedError) as caught:
        written(tmp_path, changed)
    assert "overlaps" in str(caught.value) or any("overlaps" in str(e) for e in caught.value.errors)


def test_an_address_is_one_nodes_on_every_network(tmp_path: Path) -> None:
    with pytest.raises(TestbedError, match=r"192\.168\.1\.2 is already the address of cafe-router"):
        written(tmp_path, NATS + "  twin: {roles: [correspondent], links: {cafe: 192.168.1.2}}\n")


def test_names_say_that_an_address_is_of_several() -> None:
    names = topology_names(load_topology("nat"))
    assert names(IPv4Address("192.168.1.1")) == "cafe-nat/cafe-2-nat"
    assert names.node(IPv4Address("192.168.1.1")) is None
    assert names(IPv4Address("192.168.1.100")) == "mn@cafe/cafe-2"
    assert names.node(IPv4Address("192.168.1.100")) == "mn"
    assert names(IPv4Address("203.0.113.50")) == names.node(IPv4Address("203.0.113.50")) == "cafe-nat"
