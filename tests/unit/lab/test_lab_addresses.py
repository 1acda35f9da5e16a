from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.engine.api import Network
from testbed.errors import MachineError, UsageError
from testbed.lab.addresses import (
    DEFAULT_POOL,
    POOL_VARIABLE,
    SubnetPool,
    choose_pool,
    endpoint_addresses,
    host_addresses,
    host_clashes,
    host_routes,
    prefix_length,
    taken_subnets,
)
from testbed.topology.load import load_topology

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
tun0\t000012C6\t00000000\t0001\t0\t0\t0\t0000FEFF\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


@given(st.integers(0, 2000))
def test_a_subnet_has_room_for_its_endpoints_and_no_more_than_needed(endpoints: int) -> None:
    length = prefix_length(endpoints)
    assert 2 ** (32 - length) >= endpoints + 3
    assert length == 29 or 2 ** (32 - length - 1) < endpoints + 3


def test_addresses_leave_the_engine_its_own() -> None:
    subnet = IPv4Network("198.18.0.0/29")
    assert [str(address) for address in endpoint_addresses(subnet, [IPv4Address("198.18.0.3")])] == [
        "198.18.0.2",
        "198.18.0.4",
        "198.18.0.5",
        "198.18.0.6",
    ]


@settings(deadline=None)  # a busy machine is no error
@given(st.lists(st.integers(22, 29), max_size=12), st.text(min_size=1, max_size=8))
def test_subnets_never_overlap(lengths: list[int], lab: str) -> None:
    taken = IPv4Network("198.18.0.0/16")
    pool = SubnetPool(DEFAULT_POOL, [taken], lab=lab)
    subnets = [pool.take(length) for length in lengths]
    for index, subnet in enumerate(subnets):
        assert subnet.subnet_of(DEFAULT_POOL)
        assert not any(subnet.overlaps(other) for other in [taken, *subnets[:index]])


def test_labs_begin_in_different_places() -> None:
    first, second = (SubnetPool(DEFAULT_POOL, [], lab=name).take(29) for name in ("one", "two"))
    assert first != second
    assert first == SubnetPool(DEFAULT_POOL, [], lab="one").take(29)


def test_an_exhausted_pool_says_what_to_do() -> None:
    pool = SubnetPool(IPv4Network("198.18.0.0/28"), [IPv4Network("198.18.0.8/30")], lab="x")
    assert pool.take(29) == IPv4Network("198.18.0.0/29")
    with pytest.raises(
        MachineError, match=r"no free /29 is left in the address pool 198\.18\.0\.0/28"
    ) as error:
        pool.take(29)
    assert error.value.hint is not None
    assert "testbed down" in error.value.hint and POOL_VARIABLE in error.value.hint


def test_a_pool_smaller_than_a_network_is_exhausted_at_once() -> None:
    with pytest.raises(MachineError, match="no free /24"):
        SubnetPool(IPv4Network("198.18.0.0/26"), [], lab="x").take(24)


def test_choosing_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(POOL_VARIABLE, raising=False)
    assert choose_pool() == DEFAULT_POOL
    monkeypatch.setenv(POOL_VARIABLE, "10.99.0.0/16")
    assert choose_pool() == IPv4Network("10.99.0.0/16")
    assert choose_pool("10.98.0.0/16") == IPv4Network("10.98.0.0/16")
    for bad, message in (
        ("10.0.0.1/8", "host bits"),
        ("fd00::/64", "not an IPv4"),
        ("10.0.0.0/30", "too small"),
    ):
        with pytest.raises(UsageError, match=message):
            choose_pool(bad)


TRIE = """\
Main:
     +-- 192.0.2.0/24 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 203.0.113.10
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
"""


def test_an_address_of_the_host_is_refused(tmp_path: Path) -> None:
    """The host would answer ARP requests for it on every bridge."""
    table = tmp_path / "fib_trie"
    table.write_text(TRIE)
    assert host_addresses(table) == {IPv4Address("203.0.113.10")}
    assert host_addresses(tmp_path / "absent") == set()
    loaded = load_topology("plain-mip")
    assert host_clashes(loaded, {IPv4Address("192.0.2.2")}) == []
    (clash,) = host_clashes(loaded, host_addresses(table))
    assert clash.message == (
        "nodes.fa-hotspot.links.internet: 203.0.113.10 is an address of this machine itself"
    )
    assert clash.source is not None and clash.source.file.endswith("outside.yaml")


def test_host_routes_and_networks_are_taken(tmp_path: Path) -> None:
    table = tmp_path / "route"
    table.write_text(ROUTES)
    assert host_routes(table) == [IPv4Network("198.18.0.0/15"), IPv4Network("192.0.2.0/24")]
    assert host_routes(tmp_path / "absent") == []
    network = Network("id", "bridge", {}, (IPv4Network("172.17.0.0/16"),))
    assert IPv4Network("172.17.0.0/16") in taken_subnets([network])
