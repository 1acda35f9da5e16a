"""Session keys that charon logs, as Wireshark takes them: tshark decrypts with them what was captured.

`charon/` has what a mobile node and its gateway logged of a move between two networks, and six frames of it.
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from testbed.evidence.wireshark import EspSa, IkeSa, write_tables
from testbed.lab.session_keys import parse_charon
from testbed.render import Secrets, render_lab
from testbed.topology.load import load_topology

HERE = Path(__file__).parent / "charon"
CAPTURE = HERE / "gw-internet.pcap"


def logged(node: str) -> list[str]:
    return (HERE / f"{node}.log").read_text().splitlines()


def tshark(folder: Path, wanted: str, *fields: str) -> list[list[str]]:
    """Fields of the frames of the capture that a display filter selects, with the tables of a folder."""
    command = ["tshark", "-r", CAPTURE, "-Y", wanted]
    command += ["-T", "fields", *(word for field in fields for word in ("-e", field))]
    environment = os.environ | {"WIRESHARK_CONFIG_DIR": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "Error" not in done.stderr, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_tshark_decrypts_with_the_tables(tmp_path: Path) -> None:
    write_tables(tmp_path, parse_charon(logged("mn")))
    registrations = tshark(tmp_path, "esp && mip", "mip.type", "mip.homeaddr")
    assert registrations == [["1", "10.0.9.100"], ["3", "10.0.9.100"]]
    echoes = tshark(tmp_path, "esp && icmp", "icmp.type")
    assert echoes == [["8"], ["0"]]
    negotiated = tshark(tmp_path, "isakmp.exchangetype == 35", "isakmp.typepayload", "_ws.malformed")
    assert [one[0].split(",")[:3] for one in negotiated] == [["46", "35", "41"], ["46", "36", "39"]]
    assert not any(malformed for _, malformed in negotiated)


@pytest.mark.parametrize("table", ["esp_sa", "preferences", "ikev2_decryption_table"])
def test_tshark_decrypts_nothing_without_them(tmp_path: Path, table: str) -> None:
    write_tables(tmp_path, parse_charon(logged("gw")))
    (tmp_path / table).unlink()
    inner = tshark(tmp_path, "esp && (mip || icmp)", "frame.number")
    identities = tshark(tmp_path, "isakmp.typepayload == 35", "frame.number")
    assert (len(inner), len(identities)) == ((4, 0) if table == "ikev2_decryption_table" else (0, 1))


def test_an_association_that_was_rekeyed_has_the_numbers_that_charon_is_asked_for() -> None:
    """Its keys are in the log, its SPIs are not."""
    dump = ["0: " + " ".join(["AB"] * 16) + "  x", "16: " + " ".join(["CD"] * 4) + "  x"]
    log = ["15[CFG] <vpn|2> selected proposal: IKE:AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE_25519"]
    for what in ("Sk_ei", "Sk_er"):
        log += [
            f"15[IKE] <vpn|2> {what} secret => 20 bytes @ 0x7f",
            *(f"15[IKE] <vpn|2>    {one}" for one in dump),
        ]
    assert list(parse_charon(log)) == []
    key = bytes.fromhex("AB" * 16 + "CD" * 4)
    assert list(parse_charon(log, {"2": b"i" * 8 + b"r" * 8})) == [IkeSa(b"i" * 8, b"r" * 8, key, key)]
    assert list(parse_charon(log, {"1": b"i" * 8 + b"r" * 8})) == []


def test_tshark_decrypts_nothing_with_another_key(tmp_path: Path) -> None:
    def other(one: EspSa | IkeSa) -> EspSa | IkeSa:
        if isinstance(one, EspSa):
            return EspSa(one.source, one.destination, one.spi, bytes(len(one.key)))
        return IkeSa(one.initiator_spi, one.responder_spi, one.responder_key, one.initiator_key)

    write_tables(tmp_path, map(other, parse_charon(logged("mn"))))
    assert not tshark(tmp_path, "esp && (mip || icmp)", "frame.number")
    assert not tshark(tmp_path, "isakmp.id.type", "frame.number")


def test_both_ends_of_an_association_log_the_same() -> None:
    mn, gw = (set(parse_charon(logged(node))) for node in ("mn", "gw"))
    assert mn == gw
    assert sum(isinstance(one, IkeSa) for one in mn) == 3
    assert sum(isinstance(one, EspSa) for one in mn) == 6


def test_nobody_else_reads_them_and_no_key_is_shown(tmp_path: Path) -> None:
    found = list(parse_charon(logged("mn")))
    write_tables(tmp_path / "a", found)
    write_tables(tmp_path / "a", found)  # again
    files = list((tmp_path / "a").iterdir())
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3
    assert all("key" not in repr(one) for one in found)
    write_tables(tmp_path / "none", ())
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("old", "new", "left"),
    [
        ("IKE:AES_GCM_16_128", "IKE:AES_CBC_128", {EspSa}),
        ("using AES_GCM_16 ", "using AES_CBC ", {IkeSa}),
        ("natd_chunk", "another_chunk", {EspSa}),  # an IKE SA whose SPIs are not known
        ("[CHD]", "[XYZ]", {IkeSa}),
    ],
)
def test_what_wireshark_could_not_use_is_left_out(old: str, new: str, left: set[type]) -> None:
    lines = [line.replace(old, new) for line in logged("gw")]
    assert {type(one) for one in parse_charon(lines)} == left


def test_a_log_that_is_cut_anywhere_or_mixed_with_others_is_read() -> None:
    lines = logged("gw")
    whole = list(parse_charon(lines))
    for end in range(0, len(lines), 7):
        assert list(parse_charon(lines[:end])) == whole[: len(list(parse_charon(lines[:end])))]
    mixed = [each for line in lines for each in (line, "12[KNL] 10.0.9.100 appeared", "{}", "")]
    assert list(parse_charon(mixed)) == whole
    assert list(parse_charon([*lines, *lines])) == whole * 2  # charon was started again


def test_keys_are_logged_only_where_they_are_asked_for() -> None:
    topology, secrets = load_topology("scenario-2.2"), Secrets("psk", "00" * 16)
    path = "/etc/strongswan.conf"
    for asked in (False, True):
        lab = render_lab(topology, lab="x", secrets=secrets, session_keys=asked)
        for node in ("mn", "gw"):
            assert ("= 4" in lab.nodes[node].files[path].content) is asked
