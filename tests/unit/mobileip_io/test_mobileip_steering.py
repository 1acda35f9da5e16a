"""Which process of a home agent gets what: the kernel's choice, its filters, and records of before."""

from __future__ import annotations

import select
import socket
from ipaddress import IPv4Address, IPv4Network
from random import Random

import bpf_interpreter
import pytest
from scapy.layers.inet import ICMP, IP, UDP, IPOption

from testbed.mobileip.core.api import Remember
from testbed.mobileip.io import bpf, shard_records
from testbed.mobileip.io.bpf import attach_choice
from testbed.mobileip.io.packet import REGISTRATION
from testbed.mobileip.io.shard_records import file_of, share_records
from testbed.mobileip.io.steering import Share, Steering
from testbed.mobileip.io.store import Store
from testbed.mobileip.io.udp import Place, keepalives, share_out
from testbed.mobileip.tunnel.endpoint import CARRIERS, EVERYTHING, tunnel_data
from testbed.mobileip.wire.encapsulation import ROOM
from testbed.mobileip.wire.in_udp import CARRIERS as CARRIERS_IN_UDP
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.revocation import Revocation, RevocationAcknowledgment

HA, CARE_OF, CN = IPv4Address("10.98.0.1"), IPv4Address("10.97.0.1"), IPv4Address("192.0.2.10")
HOME = IPv4Address("10.99.0.10")
NOBODY = IPv4Address(0)
STEERING = Steering(3, (IPv4Network("10.99.7.0/24"), IPv4Network("10.99.9.9/32")))


def addresses(number: int = 300) -> list[IPv4Address]:
    rng = Random(5944)
    return [IPv4Address(0x0A630000 + rng.randrange(0x10000)) for _ in range(number)]


def request(home_address: IPv4Address) -> bytes:
    return RegistrationRequest(RequestFlag(0), 600, home_address, HA, CARE_OF, 1).encode()


def revocation(home_address: IPv4Address) -> bytes:
    return Revocation(False, False, home_address, HA, CARE_OF, 1).encode()


def acknowledgment(home_address: IPv4Address) -> bytes:
    return RevocationAcknowledgment(False, home_address, 1).encode()


def tunnelled(carrier, source: IPv4Address, *ports: int, local: IPv4Address = CARE_OF) -> bytes:
    """What a mobile node sends to a correspondent through its reverse tunnel, from the outer IP header on."""
    datagram = bytes(IP(src=str(source), dst=str(CN)) / ICMP() / b"data")
    buffer = memoryview(bytearray(ROOM) + datagram)
    return bytes(carrier(local.packed, HA.packed, *ports).encode(buffer, ROOM, len(datagram)))


def with_checksum(source: IPv4Address) -> bytes:
    """GRE with its optional checksum (RFC 2784 §2.2), which nobody here sends."""
    inner = bytes(IP(src=str(source), dst=str(CN)) / ICMP() / b"data")
    return bytes(IP(src=str(CARE_OF), dst=str(HA), proto=47) / (b"\x80\0\x08\0" + bytes(4) + inner))


def in_udp(payload: bytes, **fields) -> bytes:
    return bytes(IP(src=str(CARE_OF), dst=str(HA), **fields) / UDP(sport=434, dport=434) / payload)


def arrivals(steering: Steering, payloads: list[bytes], program=None) -> list[int]:
    """The number of the socket that the kernel has handed each of `payloads`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ours = share_out(Place(port, IPv4Address("127.0.0.1")), steering, EVERYTHING)
        try:
            if program is not None:
                for each in ours:
                    bpf.attach_filter(each.socket, EVERYTHING)
                attach_choice(ours[0].socket, program)
            found = []
            for payload in payloads:
                client.sendto(payload, ("127.0.0.1", port))
                ready, _, _ = select.select([each.socket for each in ours], [], [], 2.0)
                (number,) = [at for at, each in enumerate(ours) if each.socket in ready]
                assert ours[number].socket.recv(2048) == payload
                found.append(number)
            return found
        finally:
            for each in ours:
                each.close()


@pytest.mark.parametrize("message", [request, revocation, acknowledgment])
def test_the_kernel_hands_each_message_to_the_process_of_its_home_address(message) -> None:
    homes = addresses()
    found = arrivals(STEERING, [message(home) for home in homes])
    assert found == [STEERING.number(home) for home in homes]
    assert {*found} == {0, 1, 2}


def test_another_program_sends_requests_elsewhere() -> None:
    """What shows that the test above can fail: the program looks for the home address in another place."""
    homes = addresses()
    wrong = [
        (operation, yes, no, operand + 4 * (operation == bpf.LDW_X and operand == 4))
        for operation, yes, no, operand in STEERING.choice()
    ]
    found = arrivals(STEERING, [request(home) for home in homes], wrong)
    assert found != [STEERING.number(home) for home in homes]


def test_requests_with_an_nai_and_addresses_of_the_pool_are_for_the_first_process() -> None:
    """RFC 2794 §3: the home address is zero until it is assigned."""
    pool = [IPv4Address(each) for each in ("10.99.7.0", "10.99.7.128", "10.99.7.255", "10.99.9.9")]
    assert arrivals(STEERING, [request(each) for each in (NOBODY, *pool)]) == [0] * 5
    beside = [IPv4Address(each) for each in ("10.99.6.255", "10.99.8.0", "10.99.9.8", "10.99.9.10")]
    assert arrivals(STEERING, [request(each) for each in beside]) == [int(each) % 3 for each in beside]
    assert {int(each) % 3 for each in beside} != {0}


def test_what_names_no_home_address_is_for_the_first_process() -> None:
    broken = [b"", b"\1", request(HOME + 1)[:7], b"\3" + request(HOME + 1)[1:], b"\4\4\0\0\x45", b"\4\6" * 40]
    assert [bpf_interpreter.run(STEERING.choice(), each) for each in broken] == [0] * len(broken)
    for each in broken:
        assert takers(lambda share: share.messages(EVERYTHING), in_udp(each), 20) == [0]


def takers(make, packet: bytes, begin: int = 0) -> list[int]:
    """The processes whose filters accept a packet."""
    shares = [Share(STEERING, number) for number in range(STEERING.processes)]
    return [share.number for share in shares if bpf_interpreter.run(make(share), packet, begin)]


@pytest.mark.parametrize("carrier", CARRIERS_IN_UDP)
def test_keepalives_are_for_the_process_of_who_sends_them(carrier) -> None:
    """RFC 3519 §4.9: an ICMP echo request through the tunnel. The kernel and the interpreter agree."""
    homes = addresses(30)
    payloads = [tunnelled(carrier, home, 434, 434)[28:] for home in homes]
    expected = [STEERING.number(home) for home in homes]
    assert arrivals(STEERING, payloads) == expected
    assert [bpf_interpreter.run(STEERING.choice(), payload) for payload in payloads] == expected


def test_a_socket_of_requests_has_the_filter_of_before_beside_its_own() -> None:
    ping = bytes(IP(src=str(HOME), dst=str(HA)) / ICMP(type=8))
    for payload in (request(HOME), revocation(HOME), b"\4\4\0\0" + ping):
        packet = in_udp(payload)
        assert takers(lambda share: share.messages(keepalives(HA)), packet, 20) == [STEERING.number(HOME)]
    data = in_udp(b"\4\4\0\0" + bytes(IP(src=str(HOME), dst=str(CN)) / ICMP(type=8)))
    assert takers(lambda share: share.messages(keepalives(HA)), data, 20) == []
    assert takers(lambda share: share.messages(EVERYTHING), data, 20) == [STEERING.number(HOME)]


def test_link_addresses_are_noted_of_own_requests_only() -> None:
    for options in ([], [IPOption(b"\x94\x04\0\0")]):
        packet = in_udp(request(HOME), options=options)
        assert takers(lambda share: share.datagrams(EVERYTHING), packet) == [STEERING.number(HOME)]
    assert Share(STEERING, 0).datagrams(REGISTRATION)[-len(REGISTRATION) :] == REGISTRATION


@pytest.mark.parametrize("home", [HOME, HOME + 1, HOME + 2, IPv4Address("10.99.7.5")])
def test_each_tunnelled_packet_is_taken_by_one_process(home: IPv4Address) -> None:
    expected = [STEERING.number(home)]
    packets = {name: [tunnelled(carrier, home)] for name, carrier in CARRIERS.items()}
    packets["gre"].append(with_checksum(home))
    packets["udp"] = [tunnelled(carrier, home, 434, 434) for carrier in CARRIERS_IN_UDP]
    # RFC 2004 §3.1: without the bit S the source is that of the outer header.
    packets["minimal"].append(tunnelled(CARRIERS["minimal"], home, local=home))
    packets["udp"].append(tunnelled(CARRIERS_IN_UDP[-1], home, 434, 434, local=home))
    for name, some in packets.items():
        for packet in some:
            assert takers(lambda share, name=name: share.tunnelled()[name], packet) == expected, name
            longer = bytes([packet[0] + 1]) + packet[1:20] + b"\x01\x01\x01\x01" + packet[20:]  # options
            assert takers(lambda share, name=name: share.tunnelled()[name], longer) == expected, name
        for end in range(20, len(packet)):  # whatever is discarded is discarded once
            assert len(takers(lambda share, name=name: share.tunnelled()[name], packet[:end])) == 1


def test_the_tunnel_process_has_both_filters_for_udp() -> None:
    share = Share(STEERING, STEERING.number(HOME))
    program = tunnel_data(434, share.tunnelled()["udp"])
    assert bpf_interpreter.run(program, tunnelled(CARRIERS_IN_UDP[0], HOME, 434, 434))
    assert not bpf_interpreter.run(program, tunnelled(CARRIERS_IN_UDP[0], HOME + 1, 434, 434))
    assert not bpf_interpreter.run(program, tunnelled(CARRIERS_IN_UDP[0], HOME, 434, 435))
    assert not bpf_interpreter.run(program, in_udp(request(HOME)))


def test_a_limit_is_divided_by_the_mobile_nodes_of_each_process() -> None:
    steering = Steering(2, (IPv4Network("10.99.7.0/24"),))
    nodes = [HOME, HOME + 1, HOME + 2, HOME + 3, "a@example.net", "b@example.net"]
    assert steering.divided(6, nodes) == [4, 2]
    assert steering.divided(10_000, nodes) == [6666, 3333]
    assert steering.divided(3, nodes) == [2, 1]
    assert steering.divided(1, nodes) == [1, 1]
    assert steering.divided(5, []) == [1, 1]


# The records.


def written(state, number: int, *nodes) -> None:
    store = Store(file_of(state, number))
    store.write(Remember(node, {"n": str(node)}) for node in nodes)
    store.close()


def kept(state, processes: int) -> list[set]:
    found = []
    for number in range(processes):
        store = Store(file_of(state, number))
        assert all(record == {"n": str(node)} for node, record in store.records.items())
        found.append({*store.records})
        store.close()
    return found


@pytest.mark.parametrize("before", [1, 2, 3, 5])
@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_every_record_is_where_its_mobile_node_is_served_now(tmp_path, before: int, after: int) -> None:
    state, homes = tmp_path / "agent.state", [HOME + number for number in range(20)]
    written(state, 0, *homes, "mn@example.net")
    for processes in (before, after):
        share_records(state, Steering(processes))
        expected = [{home for home in homes if int(home) % processes == at} for at in range(processes)]
        expected[0].add("mn@example.net")
        assert kept(state, processes) == expected
        assert len([*tmp_path.iterdir()]) == processes


def test_a_mobile_node_whose_address_joins_the_pool_is_another_processes_now(tmp_path) -> None:
    state = tmp_path / "agent.state"
    written(state, 0)
    written(state, 1, HOME + 1)
    share_records(state, Steering(2))
    assert kept(state, 2) == [set(), {HOME + 1}]
    share_records(state, Steering(2, (IPv4Network("10.99.0.0/24"),)))
    assert kept(state, 2) == [{HOME + 1}, set()]


def test_no_record_is_lost_when_the_move_is_cut_short(tmp_path, monkeypatch) -> None:
    """At any write: what begins anew then finds each of them."""
    homes = [HOME + number for number in range(6)]

    class Killed(Exception):
        pass

    class Mortal(Store):
        writes = 0

        def write(self, changes) -> None:
            Mortal.writes -= 1
            if Mortal.writes < 0:
                raise Killed
            super().write(changes)

    for writes in range(6):
        state = tmp_path / str(writes) / "agent.state"
        written(state, 0, *homes[::2])
        written(state, 1, *homes[1::2])
        monkeypatch.setattr(shard_records, "Store", Mortal)
        Mortal.writes = writes
        with pytest.raises(Killed):
            share_records(state, Steering(3))
        monkeypatch.setattr(shard_records, "Store", Store)
        share_records(state, Steering(3))
        assert kept(state, 3) == [{home for home in homes if int(home) % 3 == at} for at in range(3)]


def test_a_home_agent_of_one_process_touches_no_file(tmp_path) -> None:
    share_records(tmp_path / "agent.state", Steering(1))
    assert not [*tmp_path.iterdir()]
