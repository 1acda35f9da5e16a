"""Every type of message, extension and encapsulation in one capture, which tshark reads without a complaint.

The cores talk back to back, and what they say is written to a file; what no core says by itself is encoded as
the processes of the data plane do. A type that is new in testbed.mobileip.wire fails here until it is in the
capture, or is listed as none.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from random import Random

import pytest
from mip_world import (
    CARE_OF,
    FA_ADDRESS,
    FA_CARE_OF,
    HOME_ADDRESS,
    HOME_AGENT,
    World,
    association,
    clock,
    foreign_agent_config,
    home_agent_config,
    mobile_node_config,
)
from scapy.layers.inet import ICMP, IP, UDP
from scapy.utils import wrpcap
from test_mip_challenge import with_challenges

import testbed.mobileip.wire
from testbed.mobileip.core.api import SendAgentMessage, SendDatagram
from testbed.mobileip.core.association import sign
from testbed.mobileip.core.foreign_agent import ForeignAgent
from testbed.mobileip.core.home_agent import HomeAgent
from testbed.mobileip.core.mobile_node import MobileNode
from testbed.mobileip.wire import igmp, in_udp, nai, udp_tunnel
from testbed.mobileip.wire.authentication import FOREIGN_HOME, MOBILE_HOME
from testbed.mobileip.wire.challenge import foreign_agent_error
from testbed.mobileip.wire.echo import REPLY, Echo
from testbed.mobileip.wire.encapsulation import ROOM, Carrier, Encapsulation
from testbed.mobileip.wire.extension import ENCAPSULATING_DELIVERY, Extension
from testbed.mobileip.wire.gre import Gre
from testbed.mobileip.wire.ip_in_ip import IpInIp
from testbed.mobileip.wire.minimal import Minimal
from testbed.mobileip.wire.registration_request import RegistrationRequest, RequestFlag
from testbed.mobileip.wire.revocation import Revocation, RevocationAcknowledgment, RevocationSupport
from testbed.mobileip.wire.udp_tunnel import TunnelData, UdpTunnelRequest

WIRE = Path(testbed.mobileip.wire.__file__).parent
TYPES = {
    "agent_advertisement.TYPE": "icmp.type",
    "agent_advertisement.MOBILITY_AGENT": "icmp.mip.type",
    "agent_advertisement.PREFIX_LENGTHS": "icmp.mip.type",
    "agent_solicitation.TYPE": "icmp.type",
    "authentication.FOREIGN_HOME": "mip.ext.type",
    "authentication.MOBILE_AAA": "mip.ext.auth.subtype",
    "authentication.MOBILE_FOREIGN": "mip.ext.type",
    "authentication.MOBILE_HOME": "mip.ext.type",
    "challenge.ADVERTISED": "icmp.mip.type",
    "challenge.CHALLENGE": "mip.ext.type",
    "challenge.FOREIGN_AGENT_ERROR": "mip.ext.type",
    "echo.REPLY": "icmp.type",
    "echo.REQUEST": "icmp.type",
    "extension.ENCAPSULATING_DELIVERY": "mip.ext.type",
    "extension.GENERALIZED_AUTHENTICATION": "mip.ext.type",
    "extension.PADDING": "icmp.mip.type",
    "gre.IPV4": "gre.proto",
    "igmp.PROTOCOL": "ip.proto",
    "ipv4.ICMP": "ip.proto",
    "ipv4.IP_IN_IP": "ip.proto",
    "ipv4.UDP": "ip.proto",
    "nai.TYPE": "mip.ext.type",
    "registration_reply.TYPE": "mip.type",
    "registration_request.TYPE": "mip.type",
    "revocation.ACKNOWLEDGMENT": "mip.type",
    "revocation.REVOCATION": "mip.type",
    "revocation.SUPPORT": "mip.ext.type",
    "trusted.TRUSTED_NETWORKS": "mip.ext.type",
    "udp_tunnel.DATA": "mip.type",
    "udp_tunnel.GRE": "mip.ext.utrq.encaptype",
    "udp_tunnel.IP_IN_IP": "mip.nattt.nexthdr",
    "udp_tunnel.MINIMAL": "mip.ext.utrq.encaptype",
    "udp_tunnel.REPLY": "mip.ext.type",
    "udp_tunnel.REQUEST": "mip.ext.type",
}
"""Where tshark shows a type."""
NO_TYPES = {
    "PORT", "HEADER_SIZE", "IP_HEADER", "TTL", "ROOM", "LONGEST", "AUTHENTICATOR_SIZE",  # sizes
    "COMMON_TRAFFIC", "NO_COMMON_TRAFFIC", "ACCEPTED", "DECLINED",  # codes
    "FIRST_SKIPPABLE", "CHECKSUM", "REFUSED", "VERSION", "SOURCE_PRESENT",  # bits and bounds
    "UNIX_EPOCH", "SECOND", "FIELD", "LOW", "STAMPS",  # times
    "CHAP_SPI",
}  # fmt: skip
PROTOCOLS = {
    Encapsulation.IP_IN_IP: ("ip.proto", IpInIp.protocol),
    Encapsulation.GRE: ("ip.proto", Gre.protocol),
    Encapsulation.MINIMAL: ("ip.proto", Minimal.protocol),
    Encapsulation.UDP: ("mip.nattt.nexthdr", udp_tunnel.IP_IN_IP),
    Encapsulation.GRE_IN_UDP: ("mip.nattt.nexthdr", udp_tunnel.GRE),
    Encapsulation.MINIMAL_IN_UDP: ("mip.nattt.nexthdr", udp_tunnel.MINIMAL),
}


def types() -> dict[str, int]:
    """The numbers that testbed.mobileip.wire names, except those that are no types."""
    found = {}
    for file in sorted(WIRE.glob("*.py")):
        if file.stem == "offload":
            continue  # what it names is said between a program and a network device, and on no wire
        module = importlib.import_module(f"{testbed.mobileip.wire.__name__}.{file.stem}")
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Assign):
                names = [node.id for target in statement.targets for node in ast.walk(target)
                         if isinstance(node, ast.Name)]  # fmt: skip
                found |= {
                    f"{file.stem}.{name}": value
                    for name in names
                    if name.isupper() and not name.startswith("_") and name not in NO_TYPES
                    and isinstance(value := getattr(module, name), int)
                }  # fmt: skip
    return found


def said(world: World) -> Iterator[IP]:
    """What the cores of a world have sent."""
    for _, _, effect in world.log:
        if isinstance(effect, SendDatagram):
            each = effect.datagram
            header = IP(src=str(each.source), dst=str(each.destination), ttl=each.ttl)
            yield header / UDP(sport=each.source_port, dport=each.destination_port) / each.payload
        elif isinstance(effect, SendAgentMessage):
            message = effect.message
            yield (
                IP(src=str(message.source), dst=str(message.destination), ttl=message.ttl, proto=1)
                / message.payload
            )


def proven() -> World:
    """Everybody shares associations with everybody; the foreign agent is behind a NAT."""
    mobile_foreign, foreign_home = b"mobile and foreign", b"foreign and home"
    world = World(
        mn=MobileNode(
            mobile_node_config(
                nai="mn@example.net",
                reverse_tunnel=True,
                foreign_agents=(association(FA_ADDRESS, 500, mobile_foreign),),
            ),
            clock,
            Random(1),
        ),
        ha=HomeAgent(
            home_agent_config(
                foreign_agents=(association(FA_CARE_OF, 600, foreign_home),),
                trusted=(IPv4Network(FA_CARE_OF),),
            ),
            clock,
            Random(2),
        ),
        fas=[
            ForeignAgent(
                foreign_agent_config(
                    prefix_length=24,
                    udp_tunnel=True,
                    keepalive=10,
                    mobile_nodes=(association(HOME_ADDRESS, 500, mobile_foreign),),
                    home_agents=(association(HOME_AGENT, 600, foreign_home),),
                ),
                clock,
                Random(3),
            )
        ],
    )
    world.discover("visited")
    world.run(15.0)
    world.mn.deregister(world.now)
    world.run(1.0)
    return world


def request(flags: int, *extensions: Extension) -> IP:
    message = RegistrationRequest(flags, 60, HOME_ADDRESS, HOME_AGENT, CARE_OF, 1 << 40, extensions)
    return to_home_agent(sign(message.encode(), MOBILE_HOME, association(HOME_AGENT)))


def to_home_agent(payload: bytes) -> IP:
    return IP(src=str(CARE_OF), dst=str(HOME_AGENT)) / UDP(sport=434, dport=434) / payload


def challenged() -> World:
    """A foreign agent that demands answers to its challenges."""
    world = with_challenges()
    world.discover("visited")
    world.run(2.0)
    return world


def revoked() -> list[IP]:
    agents = association(HOME_AGENT, 600, b"between agents")
    messages = (
        Revocation(True, True, HOME_ADDRESS, HOME_AGENT, FA_CARE_OF, 78),
        RevocationAcknowledgment(True, HOME_ADDRESS, 78),
    )
    return [to_home_agent(sign(each.encode(), FOREIGN_HOME, agents)) for each in messages]


def carried(carrier: Carrier, datagram: bytes) -> IP:
    """A datagram as it leaves the process of the data plane, and then the kernel."""
    buffer = memoryview(bytearray(ROOM + len(datagram)))
    buffer[ROOM:] = datagram
    made = bytes(carrier.encode(buffer, ROOM, len(datagram)))
    packet = IP(made[:2] + len(made).to_bytes(2, "big") + made[4:])
    del packet.chksum
    return IP(bytes(packet))


def capture() -> list[IP]:
    """At least one packet of each type."""
    ends = HOME_AGENT.packed, CARE_OF.packed
    datagram = bytes(IP(src="198.51.100.1", dst=str(HOME_ADDRESS)) / ICMP(id=1, seq=1))
    answer = Echo(REPLY, 434, 1).datagram(HOME_AGENT, HOME_ADDRESS)
    return [
        *said(proven()),
        *said(challenged()),
        *revoked(),
        request(0, nai.encode("mn@example.net"), RevocationSupport(77).encode(), foreign_agent_error(109)),
        request(int(RequestFlag.REVERSE_TUNNEL), Extension(ENCAPSULATING_DELIVERY)),
        *(
            request(int(RequestFlag.DECAPSULATION), UdpTunnelRequest(True, False, encapsulation).encode())
            for encapsulation in (udp_tunnel.GRE, udp_tunnel.MINIMAL)
        ),
        IP(src=str(HOME_AGENT), dst=str(CARE_OF)) / UDP(sport=434, dport=434)
        / TunnelData(udp_tunnel.IP_IN_IP, answer).encode(),
        *(carried(carrier(*ends), datagram) for carrier in (IpInIp, Gre, Minimal)),
        *(carried(carrier(*ends, 434, 434), datagram) for carrier in in_udp.CARRIERS),
        IP(igmp.general_query(HOME_AGENT, 125)),
    ]  # fmt: skip


FIELDS = sorted({*TYPES.values(), *(field for field, _ in PROTOCOLS.values())})


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[int]]:
    """The numbers of each field that tshark finds; of the packets only a request cut short is malformed."""
    file = tmp_path_factory.mktemp("capture") / "everything.pcap"
    cut = IP(src=str(CARE_OF), dst=str(HOME_AGENT)) / UDP(sport=434, dport=434) / request(0)[UDP].load[:20]
    wrpcap(str(file), [*capture(), cut])
    columns = [part for field in ("_ws.malformed", *FIELDS) for part in ("-e", field)]
    command = ["tshark", "-n", "-r", str(file), "-T", "fields", "-E", "separator=|", *columns]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    found: dict[str, set[int]] = defaultdict(set)
    wrong = [number for number, line in enumerate(lines, 1) if not line.startswith("|")]
    assert wrong == [len(lines)], "tshark marks as malformed"
    for line in lines[:-1]:
        _, *values = line.split("|")
        for field, value in zip(FIELDS, values, strict=True):
            found[field] |= {int(each, 0) for each in value.split(",") if each}
    return found


def test_every_type_is_in_the_capture(read: dict[str, set[int]]) -> None:
    assert {*types()} == {*TYPES}, (
        "a new type needs a packet in the capture; what is no type goes to NO_TYPES"
    )
    assert {name for name, number in types().items() if number not in read[TYPES[name]]} == set()


def test_every_encapsulation_is_in_the_capture(read: dict[str, set[int]]) -> None:
    assert {*PROTOCOLS} == {*Encapsulation}
    assert {each for each, (field, number) in PROTOCOLS.items() if number not in read[field]} == set()


def test_a_type_without_a_capture_shows(read: dict[str, set[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_tunnel, "REPLY", 127)
    with pytest.raises(AssertionError, match=r"udp_tunnel\.REPLY"):
        test_every_type_is_in_the_capture(read)
