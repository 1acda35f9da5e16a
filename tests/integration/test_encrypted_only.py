"""The home agent's filter on its untrusted link (RFC 4093 §2.2): real packets in the node image."""

from __future__ import annotations

import re
from struct import pack

import pytest
from node_programs import execute

from testbed.engine.docker import DockerEngine
from testbed.render import Secrets, render_lab
from testbed.topology.load import load_topology

SEND = """
import socket, subprocess, sys
rules, packet, protocol = sys.argv[1], bytes.fromhex(sys.argv[2]), int(sys.argv[3])
subprocess.run(["nft", "-f", "-"], input="flush ruleset\\n" + rules, text=True, check=True)
try:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol).sendto(packet, ("127.0.0.1", 0))
except PermissionError:
    pass  # dropped on the way out
print(subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout)
"""


def inner(protocol: int, port: int = 0, *, options: bytes = b"", fragment: int = 0) -> bytes:
    """An IP packet as a Mobile IP tunnel carries it, the first octets of its payload those of UDP."""
    words = 5 + len(options) // 4
    header = pack("!BBHHHBBH", 0x40 | words, 0, words * 4 + 8, 1, fragment, 64, protocol, 0)
    return header + bytes((10, 0, 0, 1, 10, 0, 0, 2)) + options + pack("!HHHH", 4000, port, 8, 0)


@pytest.mark.parametrize(
    ("packet", "dropped"),
    [
        pytest.param(inner(50), False, id="esp"),
        pytest.param(inner(50, options=b"\1\1\1\0"), False, id="esp-after-options"),
        pytest.param(inner(17, 500), False, id="ike"),
        pytest.param(inner(17, 4500, fragment=0x2000), False, id="first-fragment-of-udp-encapsulated-esp"),
        pytest.param(inner(17, 7), True, id="clear"),
        pytest.param(inner(17, 7, options=b"\x83\x03\x01\xf4"), True, id="options-where-port-500-would-be"),
        pytest.param(inner(17, 500, fragment=1), True, id="later-fragment-with-500-where-the-port-would-be"),
    ],
)
def test_tunnels_carry_ipsec_or_nothing(
    engine: DockerEngine, bare_node: str, packet: bytes, dropped: bool
) -> None:
    assert drops(engine, bare_node, "ip-in-ip", 4, packet) is dropped
    assert drops(engine, bare_node, "gre", 47, b"\0\0\x08\0" + packet) is dropped


@pytest.mark.parametrize("source", [b"", bytes(4)], ids=["without-source", "with-source"])
@pytest.mark.parametrize(("protocol", "port", "dropped"), [(50, 1, False), (17, 4500, False), (17, 7, True)])
def test_minimal_tunnels_carry_ipsec_or_nothing(
    engine: DockerEngine, bare_node: str, source: bytes, protocol: int, port: int, dropped: bool
) -> None:
    header = bytes((protocol, 0x80 if source else 0)) + bytes(6) + source
    packet = header + pack("!HHHH", 4000, port, 8, 0)
    assert drops(engine, bare_node, "minimal", 55, packet) is dropped


def test_gre_with_a_checksum_is_not_looked_into(engine: DockerEngine, bare_node: str) -> None:
    assert drops(engine, bare_node, "gre", 47, b"\x80\0\x08\0" + bytes(4) + inner(50))


def drops(engine: DockerEngine, node: str, encapsulation: str, protocol: int, packet: bytes) -> bool:
    """Whether the rules, where mobile nodes ask for this encapsulation, drop what a tunnel brings."""
    loaded = load_topology("scenario-2.2", sets=[f"node.mn.encapsulation={encapsulation}"])
    lab = render_lab(loaded, lab="x", secrets=Secrets("psk", "00" * 16))
    rules = lab.nodes["ha"].files["/etc/nftables.d/home-agent.nft"].content.replace('"internet"', '"lo"')
    done = execute(engine, node, "python3", "-c", SEND, rules, packet.hex(), str(protocol))
    assert done.returncode == 0, done.stderr
    counted = re.findall(r"counter packets (\d+) bytes \d+ drop", done.stdout)
    assert len(counted) == (1 if encapsulation == "ip-in-ip" else 2)
    return any(int(count) > 0 for count in counted)
