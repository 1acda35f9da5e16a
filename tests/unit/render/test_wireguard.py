"""WireGuard's keys, and that both ends of a topology have each other's."""

import re
from base64 import b64decode

from testbed.render import Secrets, render_lab
from testbed.render.wireguard import private_key, public_key, x25519
from testbed.topology.load import load_topology


def test_the_vector_of_the_rfc():
    """RFC 7748 §5.2; the highest bit of the u-coordinate is masked (§5)."""
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    u = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    found = x25519(scalar, int.from_bytes(u, "little") & (2**255 - 1))
    assert found.hex() == "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"


def test_two_ends_agree_on_a_secret():
    mine, theirs = (b64decode(private_key("secret", node)) for node in ("mn", "gw"))
    shared = [
        x25519(own, int.from_bytes(x25519(other), "little"))
        for own, other in ((mine, theirs), (theirs, mine))
    ]
    assert shared[0] == shared[1] != bytes(32)


def test_each_end_has_the_public_key_of_the_other():
    lab = render_lab(load_topology("solutions/wireguard"), lab="x", secrets=Secrets("psk", "0a" * 16))
    ends = {name: lab.nodes[name].files["/etc/wireguard/wg0.conf"].content for name in ("mn", "gw")}
    for name, peer in (("mn", "gw"), ("gw", "mn")):
        keys = dict(re.findall(r"^(\w+Key) = (\S+)$", ends[name], re.MULTILINE))
        assert keys == {
            "PrivateKey": private_key("0a" * 16, name),
            "PublicKey": public_key("0a" * 16, peer),
        }
    assert "AllowedIPs = 10.0.1.100/32" in ends["gw"] and "FwMark" not in ends["gw"]


def test_null_takes_away_a_setting_of_what_is_included(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\ninclude: [scenario-2.1.yaml]\nnodes: {gw: {settings: {passes: null, peer: null}}}\n"
    )
    settings = load_topology(str(file)).topology.nodes["gw"].settings
    assert "peer" not in settings and "outside" in settings
