"""The tunnel process's work on packets, with sockets that only pretend."""

import errno
import json
import os
import socket
import struct
import tempfile
from ipaddress import IPv4Address
from socket import inet_aton

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.utils import checksum

from testbed.mobileip.io.bpf import attach_filter
from testbed.mobileip.io.steering import Share, Steering
from testbed.mobileip.tunnel import endpoint as endpoint_module
from testbed.mobileip.tunnel import failures, superpackets
from testbed.mobileip.tunnel import worker as worker_module
from testbed.mobileip.tunnel.worker import Worker
from testbed.mobileip.wire.checksum import internet_checksum
from testbed.mobileip.wire.offload import DEVICE_HEADER, FINISHED, SEGMENTS, TCP, UDP

inet = pytest.importorskip("scapy.layers.inet", reason="NOT RUN: needs scapy")
l2 = pytest.importorskip("scapy.layers.l2")

MN, CN, HA, COA, COA2 = "192.0.2.100", "192.0.2.10", "203.0.113.2", "198.51.100.70", "203.0.113.6"


class Raw:
    """A raw socket that remembers what was sent and hands out what a test put in."""

    def __init__(self, *_):
        self.sent = []
        self.arriving = []
        self.errors = []
        self.fail = []
        self.closed = False
        self._fd = os.eventfd(0)

    def fileno(self):
        return self._fd

    def setsockopt(self, *_):
        pass

    def bind(self, *_):
        pass

    def sendto(self, data, address):
        if self.fail:
            raise self.fail.pop(0)
        self.sent.append((bytes(data), address[0]))

    def recv_into(self, buffer):
        if not self.arriving:
            raise BlockingIOError
        data = self.arriving.pop(0)
        if isinstance(data, OSError):
            raise data
        buffer[: len(data)] = data
        return len(data)

    def recvmsg(self, *_):
        if not self.errors:
            raise BlockingIOError
        return self.errors.pop(0)

    def close(self):
        self.closed = True
        os.close(self._fd)


def tunnel(mobiles, local, remotes, encapsulations=("ip-in-ip",), broadcasts=()):
    """The request for a tunnel of each."""
    end = {"encapsulations": encapsulations, "local_port": 434, "remote_port": 434}
    ends = [{"address": remote, **end} for remote in remotes]
    return {"set": mobiles, "local": local, "ends": ends, "broadcasts": broadcasts}


class Bench:
    """A worker between a pretended device and pretended sockets."""

    def __init__(self, home_side):
        self.device, tun = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (self.device, tun):
            each.setblocking(False)
        self._tun = tun
        self.worker = Worker(tun.fileno(), theirs, home_side)

    def tell(self, *requests, answer=False):
        self.control.send(json.dumps({"requests": requests, "answer": answer}).encode())

    def ask(self, **request):
        self.tell(request, answer=True)
        assert self.worker.requests.take()
        (answer,) = json.loads(self.control.recv(65536))
        return answer

    def put(self, packet):
        """A packet is routed into the device."""
        self.device.send(FINISHED + bytes(packet))
        self.worker.encapsulate()

    def arrive(self, packet, local, encapsulation="ip-in-ip"):
        """A packet arrives at a tunnel's end; returns what comes out of the device."""
        end = self.end(local, encapsulation)
        end.socket.arriving.append(bytes(packet))
        self.worker.decapsulate(end)
        try:
            header, datagram = self.take()
        except BlockingIOError:
            return None
        assert header == FINISHED
        return datagram

    def take(self):
        """What has come out of the device: what it says of a datagram, and the datagram."""
        content = self.device.recv(0x20000)
        return content[: len(FINISHED)], content[len(FINISHED) :]

    def end(self, local, encapsulation="ip-in-ip"):
        return self.worker.tunnels.locals[local].endpoints[encapsulation]

    def raw(self, local, encapsulation="ip-in-ip"):
        return self.end(local, encapsulation).socket

    def set(self, mobile, local, *remotes, encapsulations=("ip-in-ip",), broadcasts=()):
        return self.ask(**tunnel([mobile], local, remotes, encapsulations, broadcasts))

    @property
    def count(self):
        return {name: value for name, value in self.worker.count.items() if value}


class Witness:
    """A packet socket that hands out what a test put in, with what the kernel says of it."""

    def __init__(self):
        self.seen = []

    def see(self, packet, size, link=1):
        header = DEVICE_HEADER.pack(1, 1 if size else 0, 0, size, 0, 0)
        frame = (bytes(14) if link == 1 else b"") + bytes(packet)
        self.seen.append(
            ((header + frame)[: DEVICE_HEADER.size + superpackets.SEEN], ("", 0x800, 0, link, b""))
        )

    def recvfrom_into(self, buffer):
        if not self.seen:
            raise BlockingIOError
        content, address = self.seen.pop(0)
        buffer[: len(content)] = content
        return len(content), address


@pytest.fixture
def make(monkeypatch):
    seen = Witness()
    monkeypatch.setattr(superpackets, "open_witness", lambda: seen)
    monkeypatch.setattr(endpoint_module.Endpoint, "_open", Raw)
    monkeypatch.setattr(failures, "open_icmp", Raw)
    return Bench


@pytest.fixture
def witness(make):
    """What the workers have for a packet socket."""
    return superpackets.open_witness()


@pytest.fixture
def home(make):
    bench = make(home_side=True)
    bench.set(MN, HA, COA)
    return bench


@pytest.fixture
def visited(make):
    bench = make(home_side=False)
    bench.set(MN, COA, HA)
    return bench


def inner(source=CN, destination=MN, payload=b"data", **fields):
    return inet.IP(src=source, dst=destination, **fields) / inet.UDP() / payload


def tunnelled(packet, source=COA, destination=HA, **fields):
    return inet.IP(src=source, dst=destination, proto=4, **fields) / packet


@pytest.mark.parametrize("tos", [0, 0xB8])
@pytest.mark.parametrize("flags", ["", "DF"])
def test_the_outer_header_as_scapy_builds_it(home, tos, flags):
    packet = bytes(inner(tos=tos, flags=flags))
    home.put(packet)
    ((sent, to),) = home.raw(HA).sent
    assert to == COA
    expected = bytes(tunnelled(packet, HA, COA, tos=tos, flags=flags, id=0))  # RFC 2003 §3.1
    # Length and checksum are left to the kernel.
    assert (sent[:2], sent[4:10], sent[12:]) == (expected[:2], expected[4:10], expected[12:])
    assert home.count == {"encapsulated": 1, "encapsulated-bytes": len(packet)}


def test_a_copy_to_each_care_of_address(home):
    home.set(MN, HA, COA, COA2)
    home.put(inner())
    sent = home.raw(HA).sent
    assert [to for _, to in sent] == [COA, COA2]
    assert [inet.IP(data).dst for data, _ in sent] == [COA, COA2]
    assert {bytes(inet.IP(data).payload) for data, _ in sent} == {bytes(inner())}


def test_what_has_come_before_a_tunnel_is_removed_is_not_lost_with_it(home):
    home.device.send(FINISHED + bytes(inner()))  # it was routed here before its tunnel became another's
    home.raw(HA).arriving.append(bytes(tunnelled(inner(MN, CN))))
    raw = home.raw(HA)
    home.ask(remove=MN)
    assert [to for _, to in raw.sent] == [COA]
    assert home.take() == (FINISHED, bytes(inner(MN, CN)))
    assert home.count["encapsulated"] == home.count["decapsulated"] == 1
    home.put(inner())
    assert home.count["unknown"] == 1


def test_each_side_looks_at_the_mobile_nodes_address(home, visited):
    home.put(inner(MN, CN))
    visited.put(inner(CN, MN))
    assert home.count == visited.count == {"unknown": 1}
    visited.put(inner(MN, CN))
    assert [to for _, to in visited.raw(COA).sent] == [HA]


def test_out_of_the_tunnel_unchanged(home, visited):
    reverse, forward = (
        bytes(inner(MN, CN, ttl=1)),
        bytes(inner(CN, MN, options=inet.IPOption(b"\x94\x04\0\0"))),
    )
    assert home.arrive(tunnelled(inner(MN, CN, ttl=1)), HA) == reverse
    assert visited.arrive(tunnelled(forward, HA, COA), COA) == forward
    assert home.count == {"decapsulated": 1, "decapsulated-bytes": len(reverse)}


def test_outer_options_are_skipped(home):
    packet = bytes(inner(MN, CN))
    assert home.arrive(tunnelled(packet, options=inet.IPOption(b"\x94\x04\0\0")), HA) == packet


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (tunnelled(inner(MN, CN), source=COA2), "refused"),  # RFC 3024 §4.3.2: not from the care-of address
        (tunnelled(inner(CN, MN)), "refused"),  # not from the home address
        (tunnelled(inner(MN, CN, ttl=0)), "ttl"),
        (tunnelled(b"\x60" + bytes(60)), "malformed"),
        (tunnelled(b"\x45"), "malformed"),
    ],
)
def test_what_the_home_agent_drops(home, packet, reason):
    assert home.arrive(packet, HA) is None
    assert home.count == {reason: 1}


@pytest.mark.parametrize(
    "packet",
    [tunnelled(inner(CN, MN), COA2, COA), tunnelled(inner(CN, CN), HA, COA)],
    ids=["not from the home agent", "not for a visitor"],
)
def test_what_the_visited_side_drops(visited, packet):
    assert visited.arrive(packet, COA) is None
    assert visited.count == {"refused": 1}


def test_what_must_not_enter(home):
    home.put(inner(ttl=0))
    home.put(inner(COA, MN))  # RFC 2003 §3.2: its source is the tunnel's exit
    home.put(b"\x60" + bytes(60))
    assert home.raw(HA).sent == []
    assert home.count == {"ttl": 1, "loop": 1, "unknown": 1}


def test_tunnels_come_and_go(home):
    first = home.raw(HA)
    home.set(MN, HA, COA2)
    assert home.raw(HA) is first
    assert home.arrive(tunnelled(inner(MN, CN)), HA) is None
    assert home.arrive(tunnelled(inner(MN, CN), COA2), HA) is not None
    home.set("192.0.2.101", HA, COA2)
    home.ask(remove=MN)
    home.put(inner())
    assert home.count["unknown"] == 1
    assert not first.closed
    home.ask(remove="192.0.2.101")
    assert first.closed
    assert not home.worker.tunnels.locals
    assert not home.worker.tunnels.by_fd
    home.ask(remove=MN)


LATER, LAST = "192.0.2.101", "192.0.2.102"


def test_tunnels_that_are_alike_are_asked_for_together(home):
    home.ask(**tunnel([LATER, LAST], HA, [COA2]))
    for mobile in (LATER, LAST):
        assert home.arrive(tunnelled(inner(mobile, CN), COA2), HA) is not None
        home.put(inner(CN, mobile))
    assert [to for _, to in home.raw(HA).sent] == [COA2] * 2
    home.ask(remove=LATER)
    assert home.arrive(tunnelled(inner(LATER, CN), COA2), HA) is None
    assert home.arrive(tunnelled(inner(LAST, CN), COA2), HA) is not None


def test_a_datagram_may_be_earlier_than_what_was_asked_for_before_it(home):
    """The daemon has answered a mobile node, and the request for its tunnel still waits."""
    home.tell(tunnel([LATER], HA, [COA2]))
    home.tell({"send": MN, "remotes": [COA], "datagram": bytes(inner(CN, MN, payload=b"else")).hex()})
    assert inet.IP(home.arrive(tunnelled(inner(LATER, CN), COA2), HA)).src == LATER
    home.tell(tunnel([LAST], HA, [COA2]))
    home.put(inner(CN, LAST))
    assert [to for _, to in home.raw(HA).sent] == [COA, COA2]
    assert inet.IP(home.raw(HA).sent[1][0])[inet.IP][1].dst == LAST
    assert set(home.count) == {
        "encapsulated", "encapsulated-bytes", "decapsulated", "decapsulated-bytes"
    }  # fmt: skip


def test_while_a_tunnel_is_taken_down_no_later_request_is_carried_out(home):
    """What has come so far is moved first, and a datagram of nobody is among it."""
    home.device.send(FINISHED + bytes(inner(CN, LATER)))
    home.tell({"remove": MN})
    home.tell(tunnel([MN, LATER], HA, [COA2]))
    assert home.worker.requests.take() and home.count == {"unknown": 1}
    assert home.worker.requests.take()
    home.put(inner(CN, MN))
    assert [to for _, to in home.raw(HA).sent] == [COA2]


def test_what_fails_although_nothing_could_ends_the_process(home, monkeypatch):
    """The daemon waits for no answer; it will miss the process, and has another one set all tunnels."""

    def refuse(*_):
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(endpoint_module.Endpoint, "_open", refuse)
    assert "too many" in home.ask(**tunnel([LATER], COA, [COA2]))["error"]
    assert [*home.worker.tunnels.locals] == [HA]
    home.tell(tunnel([LATER], COA, [COA2]))
    with pytest.raises(OSError, match="too many"):
        home.worker.requests.take()


def test_what_fails_ends_the_process_also_while_it_catches_up(home, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(endpoint_module.Endpoint, "_open", refuse)
    home.tell(tunnel([LATER], COA, [COA2]))
    with pytest.raises(OSError, match="too many"):
        home.put(inner(CN, LATER))


def test_who_sends_to_a_mobile_node_without_a_tunnel_is_informed(home, monkeypatch):
    """The whole home network may be routed here. As often as Linux would, it is: 50 messages at once."""
    monkeypatch.setattr(failures.time, "monotonic", lambda: 7.0)
    for _ in range(60):
        home.put(inner(CN, LATER))
    sent = home.worker.failures.icmp.sent
    assert home.count == {"unknown": 60} and len(sent) == 50
    message, to = sent[0]
    error = inet.ICMP(message)
    assert (error.type, error.code, to) == (3, 1, CN)  # host unreachable (RFC 792)
    assert error[inet.IPerror].dst == LATER
    assert home.ask(counters=True)["discarded"] == []  # it was not silent


def test_counters_are_told(home):
    home.put(inner())
    reply = home.ask(counters=True)["counters"]
    assert reply["encapsulated"] == 1
    assert set(reply) == set(worker_module.COUNTERS)


def icmp(code, info=0, kind=3, origin=2, number=errno.EHOSTUNREACH):
    return struct.pack("=IBBBxII", number, origin, kind, code, info, 0) + bytes(16)


def report(bench, quote, data):
    raw = bench.raw(HA)
    raw.errors.append((bytes(quote), [(socket.IPPROTO_IP, 11, data)], 0, (COA, 0)))
    bench.worker.failures.read_errors(bench.end(HA))


def test_a_daemon_that_waits_no_longer_ends_it(home):
    home.tell({"counters": True}, answer=True)
    home.control.close()
    assert not home.worker.requests.take()


def test_a_narrow_path_is_learnt_and_told(home):
    packet = inner(flags="DF", payload=bytes(1400))
    home.put(packet)
    quote = tunnelled(packet, HA, COA)
    report(home, bytes(quote)[:56], icmp(4, 1400, number=errno.EMSGSIZE))
    home.put(packet)
    assert len(home.raw(HA).sent) == 1
    assert home.count["too-big"] == 1
    assert [to for _, to in home.worker.failures.icmp.sent] == [CN, CN]
    for data, _ in home.worker.failures.icmp.sent:
        message = inet.ICMP(data)
        assert (message.type, message.code, message.nexthopmtu) == (3, 4, 1380)
    sent = home.worker.failures.icmp.sent[0][0]
    assert internet_checksum(sent) == 0
    assert sent[8:] == bytes(packet)[:28]


def test_what_may_be_fragmented_is(home):
    report(home, b"", icmp(4, 1400, number=errno.EMSGSIZE))
    packet = bytes(inner(payload=bytes(1400)))
    home.put(packet)
    assert home.raw(HA).sent == []
    assert home.end(HA).fragmenter.sent == [(packet, COA)]
    home.put(inner())
    assert len(home.raw(HA).sent) == 1


def test_a_learnt_mtu_is_forgotten(home, monkeypatch):
    report(home, b"", icmp(4, 1400, number=errno.EMSGSIZE))
    later = endpoint_module.time.monotonic() + 601
    monkeypatch.setattr(endpoint_module.time, "monotonic", lambda: later)
    home.put(inner(payload=bytes(1400)))
    assert len(home.raw(HA).sent) == 1


def test_a_process_with_a_share_has_filters_and_reports_errors_about_its_own_alone(make, monkeypatch):
    """Each process is told of an error by ICMP, also where another has sent the packet that it is about."""
    attached = []
    monkeypatch.setattr(endpoint_module, "attach_filter", lambda _, program: attached.append(program))
    share = Share(Steering(2), int(IPv4Address(MN)) % 2)
    home = make(home_side=True)
    home.ask(share=share.tunnelled())
    home.set(MN, HA, COA)
    programs = json.loads(json.dumps(share.tunnelled()))
    home.ask(skip=[COA2])
    carried = [programs[name] for name in ("ip-in-ip", "gre", "minimal")]
    assert [program[3:] for program in attached] == carried
    assert home.end(HA, "udp")._program == endpoint_module.tunnel_data(434, programs["udp"])
    other = str(IPv4Address(MN) + 1)
    report(home, tunnelled(inner(destination=other), HA, COA), icmp(1))
    assert home.worker.failures.icmp.sent == []
    report(home, tunnelled(inner(), HA, COA), icmp(1))
    assert [to for _, to in home.worker.failures.icmp.sent] == [CN]


@pytest.mark.parametrize(
    ("kind", "code", "relayed"),
    [(3, 0, 0), (3, 1, 1), (3, 2, 1), (3, 3, None), (3, 5, None), (11, 0, 1), (4, 0, None)],
)
def test_errors_from_within_the_tunnel(home, kind, code, relayed):
    """RFC 2003 §4."""
    report(home, tunnelled(inner(), HA, COA), icmp(code, kind=kind))
    assert [data[1] for data, _ in home.worker.failures.icmp.sent] == ([] if relayed is None else [relayed])


def test_no_error_about_an_error(home):
    about = inet.IP(src=CN, dst=MN) / inet.ICMP(type=3) / bytes(inner())
    report(home, tunnelled(about, HA, COA), icmp(1))
    report(home, tunnelled(inner(frag=2), HA, COA), icmp(1))
    report(home, tunnelled(inner("224.0.0.5"), HA, COA), icmp(1))
    report(home, tunnelled(inner(), HA, COA), icmp(1, origin=1))
    assert home.worker.failures.icmp.sent == []


def test_an_old_error_does_not_cost_a_packet(home):
    home.raw(HA).fail = [OSError(errno.EHOSTUNREACH, "")]
    home.put(inner())
    assert len(home.raw(HA).sent) == 1
    home.raw(HA).fail = [OSError(errno.EAGAIN, "")]
    home.put(inner())
    assert home.count["failed"] == 1
    home.raw(HA).arriving.append(OSError(errno.EHOSTUNREACH, ""))
    assert home.arrive(tunnelled(inner(MN, CN)), HA) is not None


BITS = {"gre": ("gre", "ip-in-ip"), "minimal": ("minimal", "ip-in-ip")}


def gre(packet, source=COA, destination=HA, **fields):
    return inet.IP(src=source, dst=destination) / l2.GRE(**fields) / packet


def in_minimal(packet, source=COA, destination=HA):
    """RFC 2004 §3 with scapy: the header's fields moved into a forwarding header."""
    packet = inet.IP(bytes(packet))
    forwarding = struct.pack("!BBH", packet.proto, 0x80, 0) + inet_aton(packet.dst) + inet_aton(packet.src)
    forwarding = forwarding[:2] + checksum(forwarding).to_bytes(2, "big") + forwarding[4:]
    outer = inet.IP(
        src=source,
        dst=destination,
        ttl=packet.ttl,
        tos=packet.tos,
        id=packet.id,
        flags=packet.flags,
        proto=55,
    )
    return outer / forwarding / bytes(packet.payload)


def test_gre_both_ways(make):
    home, visited = make(True), make(False)
    home.set(MN, HA, COA, encapsulations=BITS["gre"])
    visited.set(MN, COA, HA, encapsulations=BITS["gre"])
    home.put(inner(tos=0xB8, flags="DF"))
    ((sent, to),) = home.raw(HA, "gre").sent
    expected = bytes(gre(inner(tos=0xB8, flags="DF"), HA, COA))
    assert (to, sent[20:], sent[1]) == (COA, expected[20:], 0xB8)
    assert home.raw(HA).sent == []
    assert visited.arrive(sent, COA, "gre") == bytes(inner(tos=0xB8, flags="DF"))
    assert home.arrive(gre(inner(MN, CN), chksum_present=1), HA, "gre") == bytes(inner(MN, CN))
    assert visited.arrive(tunnelled(inner(), HA, COA), COA) == bytes(inner())  # RFC 5944 §4.1: always


def test_minimal_both_ways(make):
    home, visited = make(True), make(False)
    home.set(MN, HA, COA, encapsulations=BITS["minimal"])
    visited.set(MN, COA, HA, encapsulations=BITS["minimal"])
    packet = inner(tos=0xB8, flags="DF", ttl=9, id=7)
    home.put(packet)
    ((sent, to),) = home.raw(HA, "minimal").sent
    expected = bytes(in_minimal(packet, HA, COA))
    assert (to, sent[20:], sent[1], sent[8]) == (COA, expected[20:], 0xB8, 9)
    reverse = inner(MN, CN, ttl=5)
    assert home.arrive(in_minimal(reverse), HA, "minimal") == bytes(reverse)
    assert visited.arrive(in_minimal(packet, HA, COA), COA, "minimal") == bytes(packet)


def test_fragments_are_never_in_minimal_encapsulation(make):
    """RFC 2004 §3."""
    home = make(True)
    home.set(MN, HA, COA, encapsulations=BITS["minimal"])
    for packet in (inner(flags="MF"), inner(frag=100)):
        home.put(packet)
    assert home.raw(HA, "minimal").sent == []
    assert [data[20:] for data, _ in home.raw(HA).sent] == [bytes(inner(flags="MF")), bytes(inner(frag=100))]


def test_what_was_not_agreed_on_is_dropped(home):
    """RFC 3024 §4.3.2."""
    assert home.arrive(gre(inner(MN, CN)), HA, "gre") is None
    assert home.arrive(in_minimal(inner(MN, CN)), HA, "minimal") is None
    assert home.count == {"refused": 2}


def test_damaged_and_looping_packets_are_dropped(make):
    home = make(True)
    home.set(MN, HA, COA, encapsulations=BITS["gre"])
    home.set("192.0.2.101", HA, COA, encapsulations=BITS["minimal"])
    damaged = bytearray(bytes(in_minimal(inner("192.0.2.101", CN))))
    damaged[24] ^= 1
    assert home.arrive(damaged, HA, "minimal") is None
    assert home.arrive(gre(inner(MN, CN), key_present=1), HA, "gre") is None
    assert home.arrive(gre(inner(MN, COA)), HA, "gre") is None  # RFC 2784 §3.1
    assert home.count == {"malformed": 2, "loop": 1}


@pytest.mark.parametrize(("name", "overhead"), [("ip-in-ip", 20), ("gre", 24), ("minimal", 12)])
def test_every_encapsulation_learns_how_narrow_its_path_is(make, name, overhead):
    home = make(True)
    home.set(MN, HA, COA, encapsulations=(name, "ip-in-ip"))
    packet = inner(flags="DF", payload=bytes(1400))
    home.put(packet)
    raw = home.raw(HA, name)
    quote = {"ip-in-ip": tunnelled, "gre": gre, "minimal": in_minimal}[name](packet, HA, COA)
    error = icmp(4, 1400, number=errno.EMSGSIZE)
    raw.errors.append((bytes(quote)[:80], [(socket.IPPROTO_IP, 11, error)], 0, (COA, 0)))
    home.worker.failures.read_errors(home.end(HA, name))
    home.put(packet)
    assert len(raw.sent) == 1
    assert [inet.ICMP(data).nexthopmtu for data, _ in home.worker.failures.icmp.sent] == [1400 - overhead] * 2
    told = inet.IP(home.worker.failures.icmp.sent[0][0][8:])
    assert (told.src, told.dst, told.proto, told.len) == (CN, MN, 17, len(packet))
    home.put(inner(payload=bytes(1400)))
    ((part, _),) = home.end(HA, "ip-in-ip" if name == "minimal" else name).fragmenter.sent
    assert part == (b"\0\0\x08\0" if name == "gre" else b"") + bytes(inner(payload=bytes(1400)))


def test_what_others_take_is_filtered(home, monkeypatch):
    attached = []

    def attach(_, program):
        if program != endpoint_module.tunnel_data(434):  # of UDP the kernel's tunnels take nothing
            attached.append(program)

    monkeypatch.setattr(endpoint_module, "attach_filter", attach)
    home.ask(skip=[COA2])
    here = int.from_bytes(inet_aton(COA2), "big")
    expected = [(0x20, 0, 0, 12), (0x15, 0, 1, here), (6, 0, 0, 0), (6, 0, 0, 0x40000)]
    assert attached == [expected] * 3
    home.set("192.0.2.101", COA, HA)  # another local address
    assert attached == [expected] * 6
    home.ask(skip=[])
    assert attached[-1] == [(0x20, 0, 0, 12), (6, 0, 0, 0x40000)]


def test_a_filter_as_the_kernel_runs_it():
    ends = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        ends[0].bind(f"{folder}/end")
        ends[1].connect(f"{folder}/end")
        end = endpoint_module.Endpoint.__new__(endpoint_module.Endpoint)
        end.socket, end._program = ends[0], endpoint_module.EVERYTHING
        end.skip([COA2, CN, *(f"10.0.0.{n}" for n in range(200))])
        for source in (COA, COA2, CN, HA, "10.0.0.1"):
            ends[1].send(bytes(tunnelled(inner(MN, CN), source=source)))
        ends[0].setblocking(False)
        assert [inet.IP(ends[0].recv(2000)).src for _ in range(2)] == [COA, HA]
        with pytest.raises(BlockingIOError):
            ends[0].recv(2000)
    for each in ends:
        each.close()


def test_broadcasts_and_multicast_where_they_are_wanted(make):
    visited = make(False)
    visited.set(MN, COA, HA, broadcasts=("192.0.2.255", "224.0.0.0"))
    for destination in ("192.0.2.255", "224.0.0.5", MN):
        assert visited.arrive(tunnelled(inner(CN, destination), HA, COA), COA) is not None
    assert visited.arrive(tunnelled(inner(CN, "192.0.2.7"), HA, COA), COA) is None
    assert visited.arrive(tunnelled(inner(CN, "224.0.0.5"), COA2, COA), COA) is None
    visited.set(MN, COA, HA)
    assert visited.arrive(tunnelled(inner(CN, "224.0.0.5"), HA, COA), COA) is None


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=120), st.booleans(), st.sampled_from(["ip-in-ip", "gre", "minimal"]))
def test_nothing_crashes_it(data, home_side, name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoint_module.Endpoint, "_open", Raw)
        patch.setattr(failures, "open_icmp", Raw)
        patch.setattr(superpackets, "open_witness", Witness)
        bench = Bench(home_side)
        bench.set("0.0.0.0", HA, "0.0.0.0", encapsulations=(name, "ip-in-ip"))
        bench.put(data)
        bench.arrive(data, HA, name)
        raw = bench.raw(HA, name)
        raw.errors.append((data, [(0, 11, icmp(4, 100))], 0, ("0.0.0.0", 0)))
        bench.worker.failures.read_errors(bench.end(HA, name))
        for endpoint in bench.worker.tunnels.locals[HA].endpoints.values():
            endpoint.close()


def test_a_datagram_of_the_daemon_goes_into_the_tunnels_it_names(home):
    home.set(MN, HA, COA, COA2)
    packet = bytes(inner(CN, "192.0.2.255"))  # a broadcast of the home link (RFC 5944 §4.3)
    assert home.ask(send=MN, remotes=[COA2], datagram=packet.hex()) == {}
    ((sent, to),) = home.raw(HA).sent
    assert to == COA2
    assert bytes(inet.IP(sent).payload) == packet
    assert home.count == {"encapsulated": 1, "encapsulated-bytes": len(packet)}
    home.ask(send="192.0.2.77", remotes=[COA2], datagram=packet.hex())  # nobody is there
    assert len(home.raw(HA).sent) == 1


def left_to_hardware(transport, data, source=MN, destination=CN):
    """A datagram with the sum of the pseudo header for a checksum, computed by scapy."""
    whole = inet.IP(bytes(inet.IP(src=source, dst=destination, flags="DF") / transport / bytes(data)))
    whole.payload.chksum = ~inet.in4_chksum(whole.proto, whole, b"") & 0xFFFF
    return whole


def tcp(data, **addresses):
    return left_to_hardware(inet.TCP(sport=1, dport=2, flags="A"), data, **addresses)


def test_unfinished_checksums_are_left_to_the_device(home, witness):
    small, large = tcp(100), tcp(1400)
    for packet in (small, large):
        witness.see(tunnelled(packet), 0)
        home.end(HA).socket.arriving.append(bytes(tunnelled(packet)))
        home.worker.decapsulate(home.end(HA))
        assert home.take() == (DEVICE_HEADER.pack(1, 0, 0, 0, 20, 16), bytes(packet))
    assert home.count == {"decapsulated": 2, "decapsulated-bytes": len(small) + len(large)}


@pytest.mark.parametrize("link", [1, 65534], ids=["ethernet", "tunnel"])
def test_a_superpacket_goes_to_the_device_with_the_size_of_its_segments(home, witness, link):
    other, packet = tcp(30000), tcp(40000)
    for each, size in ((tunnelled(other), 700), (tunnelled(packet), 1440)):
        witness.see(each, size, link)
    home.end(HA).socket.arriving.append(bytes(tunnelled(packet)))
    home.worker.decapsulate(home.end(HA))
    assert home.take() == (DEVICE_HEADER.pack(1, SEGMENTS[TCP], 40, 1440, 20, 16), bytes(packet))
    datagrams = left_to_hardware(inet.UDP(sport=1, dport=2), 900)
    witness.see(tunnelled(datagrams), 300, link)
    home.end(HA).socket.arriving.append(bytes(tunnelled(datagrams)))
    home.worker.decapsulate(home.end(HA))
    assert home.take() == (DEVICE_HEADER.pack(1, SEGMENTS[UDP], 28, 300, 20, 6), bytes(datagrams))


def test_a_superpacket_that_the_kernel_had_no_room_to_show(home, witness):
    home.raw(HA).arriving.append(bytes(tunnelled(tcp(40000))))
    home.worker.decapsulate(home.end(HA))
    header, _ = home.take()
    assert DEVICE_HEADER.unpack(header)[3] == 536  # RFC 1122 §4.2.2.6
    # The borders between datagrams cannot be guessed.
    assert home.arrive(tunnelled(left_to_hardware(inet.UDP(), 40000)), HA) is None
    assert home.count["failed"] == 1


def test_a_superpacket_in_a_further_tunnel_is_cut(home, witness):
    further = inet.IP(src=MN, dst=CN, id=9) / tcp(2000, source="10.0.0.1", destination="10.0.0.2")
    packet = tunnelled(further)
    witness.see(packet, 1000)
    home.raw(HA).arriving.append(bytes(packet))
    home.worker.decapsulate(home.end(HA))
    for number in range(2):
        header, content = home.take()
        datagram = inet.IP(content)
        assert (header, datagram.id, len(datagram[inet.TCP].payload)) == (FINISHED, 9 + number, 1000)
        assert datagram[inet.TCP].seq == number * 1000


def test_what_is_sent_on_by_a_raw_socket_is_whole(home, witness):
    """RFC 3024 §5.2: what a mobile node has tunnelled to us goes into its tunnel to the home agent."""
    end = {"encapsulations": ["ip-in-ip"], "local_port": 434, "remote_port": 434}
    fields = {"ends": [{"address": HA, **end}], "broadcasts": [], "delivery": {"address": COA2, **end}}
    home.ask(set=[MN], local=COA, **fields)
    packet = inet.IP(src=MN, dst=COA2, proto=4) / tcp(2000)
    witness.see(packet, 1000)
    assert home.arrive(packet, COA2) is None
    sent = [inet.IP(data)[inet.TCP] for data, _ in home.raw(COA).sent]
    assert [(each.seq, len(each.payload)) for each in sent] == [(0, 1000), (1000, 1000)]
    assert home.count["encapsulated"] == home.count["decapsulated"] == 2


def test_the_kernel_shows_what_may_be_a_superpacket(monkeypatch):
    """The filter on a socket that has no link header."""
    monkeypatch.setattr(superpackets, "NETWORK", 0)
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setblocking(False)
    attach_filter(receiver, superpackets.left_to_links())
    datagrams = left_to_hardware(inet.UDP(sport=1, dport=2), 100)
    further = inet.IP(src=MN, dst=CN) / tcp(1000)
    shown = [tcp(1000), tcp(40000, source="255.255.255.255"), datagrams, further, gre(further)]
    finished = inet.IP(src=MN, dst=CN) / inet.TCP() / bytes(1000)
    hidden = [tcp(500), inner(payload=bytes(1000)), finished, inet.IP() / inet.ICMP() / bytes(1000)]
    for wrap in (tunnelled, gre):
        for packet in (*shown, *hidden):
            sender.send(bytes(wrap(packet))[:60000])
    sender.send(bytes(tcp(1000)))
    for wrap in (tunnelled, gre):
        for packet in shown:
            assert receiver.recv(60000) == bytes(wrap(packet))[: superpackets.SEEN]
    with pytest.raises(BlockingIOError):
        receiver.recv(60000)


class Merger:
    """Remembers the superpackets that it is given to send."""

    def __init__(self):
        self.sent = []
        self.refuses = False

    def send(self, headers, transport, data, size):
        if self.refuses:
            raise OSError
        self.sent.append((bytes(headers), transport, bytes(data), size))
        return -(-len(data) // size)


@pytest.fixture
def merger(home):
    home.worker.merger = Merger()
    return home.worker.merger


def put_unfinished(home, packet, size=0):
    """What the device says when its sender has left it the checksum, and a TCP superpacket to be cut."""
    home.device.send(DEVICE_HEADER.pack(1, 1 if size else 0, 0, size, 20, 16) + bytes(packet))
    home.worker.encapsulate()


def test_a_superpacket_goes_whole_to_each_care_of_address(home, merger):
    home.set(MN, HA, COA, COA2)
    packet = bytes(tcp(2500, source=CN, destination=MN))
    put_unfinished(home, packet, 1000)
    for (headers, transport, data, size), to in zip(merger.sent, (COA, COA2), strict=True):
        assert (inet.IP(headers).dst, transport, size) == (to, 40, 1000)
        assert headers[20:] + data == packet
    assert home.count == {"encapsulated": 6, "encapsulated-bytes": 2 * (2500 + 3 * 40)}
    assert home.raw(HA).sent == []


def test_a_single_segment_goes_after_the_superpackets_before_it(home, merger):
    put_unfinished(home, tcp(10, source=CN, destination=MN))
    ((_, _, data, size),) = merger.sent
    assert (len(data), size) == (10, 10)


def test_what_cannot_be_merged_is_cut_and_finished(home, merger):
    may_be_fragmented = tcp(2500, source=CN, destination=MN)
    may_be_fragmented.flags, may_be_fragmented.id = 0, 5
    put_unfinished(home, may_be_fragmented, 1000)
    put_unfinished(home, left_to_hardware(inet.UDP(sport=1, dport=2), 100, source=CN, destination=MN))
    assert merger.sent == []
    *segments, datagram = [inet.IP(data).payload for data, _ in home.raw(HA).sent]
    assert [len(each[inet.TCP].payload) for each in segments] == [1000, 1000, 500]
    for each in (*segments, datagram):
        found, each.payload.chksum = each.payload.chksum, None
        assert inet.IP(bytes(each)).payload.chksum == found
    assert home.count["encapsulated"] == 4


def test_what_the_kernel_has_verified_is_finished(home, merger):
    """VIRTIO_NET_HDR_F_DATA_VALID says so of a checksum, as in ICMP errors of routers."""
    error = inet.IP(src=CN, dst=MN) / inet.ICMP(type=11) / bytes(28)
    home.device.send(DEVICE_HEADER.pack(2, 0, 0, 0, 0, 0) + bytes(error))
    home.worker.encapsulate()
    ((data, _),) = home.raw(HA).sent
    assert bytes(inet.IP(data).payload) == bytes(error) and merger.sent == []


def test_segments_too_large_for_the_path_are_refused(home, merger):
    report(home, b"", icmp(4, 1020, number=errno.EMSGSIZE))
    put_unfinished(home, tcp(2500, source=CN, destination=MN), 1000)
    put_unfinished(home, tcp(2500, source=CN, destination=MN), 960)
    assert [size for *_, size in merger.sent] == [960]
    ((message, to),) = home.worker.failures.icmp.sent
    assert (to, inet.ICMP(message).nexthopmtu) == (CN, 1000)
    assert home.count["too-big"] == 1


def test_a_superpacket_that_is_not_sent_is_counted(home, merger):
    merger.refuses = True
    put_unfinished(home, tcp(2500, source=CN, destination=MN), 1000)
    put_unfinished(home, tcp(2500, source=COA, destination=MN), 1000)  # RFC 2003 §3.2
    assert home.count == {"failed": 1, "loop": 3}
