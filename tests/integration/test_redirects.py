"""A mobile node's filter of ICMP redirects (RFC 5944 §4.2.1): real packets in the node image."""

from __future__ import annotations

from struct import pack

import pytest
from node_programs import execute
from scapy.layers.inet import ICMP, IP, UDP
from test_encrypted_only import SEND

from testbed.engine.docker import DockerEngine
from testbed.render import Secrets, render_lab
from testbed.topology.load import load_topology

REDIRECT = bytes(ICMP(type=5, code=1, gw="127.0.0.2") / IP(src="127.0.0.1", dst="127.0.0.3") / UDP())
ECHO = pack("!BBHHH", 8, 0, 0xF7FF, 0, 0)


@pytest.mark.parametrize(
    ("topology", "home", "packet", "dropped"),
    [
        ("scenario-2.1", "home", REDIRECT, 1),
        ("scenario-2.1", "lo", REDIRECT, 0),  # at home it is a host like others
        ("scenario-2.1", "home", ECHO, 0),
        ("scenario-2.4", "lo", REDIRECT, 1),  # its home network is virtual: it is never there
    ],
)
def test_redirects_are_ignored_on_foreign_networks(
    engine: DockerEngine, bare_node: str, topology: str, home: str, packet: bytes, dropped: int
) -> None:
    lab = render_lab(load_topology(topology), lab="x", secrets=Secrets("psk", "00" * 16))
    rules = lab.nodes["mn"].files["/etc/nftables.d/mobile-node.nft"].content.replace('"home"', f'"{home}"')
    done = execute(engine, bare_node, "python3", "-c", SEND, rules, packet.hex(), "1")
    assert done.returncode == 0, done.stderr
    assert f"counter packets {dropped} " in done.stdout
