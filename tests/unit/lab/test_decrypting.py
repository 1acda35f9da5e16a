"""Switching charon's log to the level that has keys, and back; renewing what was there before."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from lab_world import MOBILE

from testbed.engine.fake import FakeContainer, FakeEngine
from testbed.errors import TestbedError, UsageError
from testbed.lab import decrypting
from testbed.lab.decrypting import logged_keys, parse_associations
from testbed.lab.state import find_lab

LISTING = """\
vpn: #{ike}, ESTABLISHED, IKEv2, 59469318ea1b14b{ike}_i* f5a11ea00c9692d8_r
  local  'mn' @ 198.51.100.73[500] [10.0.250.1]
  established 21s ago, rekeying in 13627s
  vpn: #{old}, reqid 1, DELETED, TUNNEL, ESP:AES_GCM_16-128
  vpn: #{child}, reqid 1, INSTALLED, TUNNEL, ESP:AES_GCM_16-128
    installed 21s ago, rekeying in 3421s, expires in 3939s
clients: #9, REKEYED, IKEv2, 0000000000000001_i 0000000000000002_r*
  intranet: #8, reqid 1, INSTALLED, TUNNEL, ESP:AES_GCM_16-128
"""


class Charon:
    """A charon that renews what it is told to, unless it is `stuck`."""

    def __init__(self, *, stuck: bool = False, deaf: bool = False) -> None:
        self.stuck, self.deaf = stuck, deaf
        self.ike = self.child = 1
        self.done: list[str] = []

    def __call__(self, box: FakeContainer, command: Sequence[str], stdin: bytes) -> tuple[bytes, bytes, int]:
        if command[0] == "swanctl" and command[1] == "--list-sas":
            text = LISTING.format(ike=self.ike, child=self.child, old=self.child - 1)
            return text.encode(), b"", 0
        if command[0] == "swanctl":
            self.done.append(" ".join(command[2:]))
            if not self.stuck:
                self.child += command[2] == "--child-id"
                self.ike += command[2] == "--ike-id"
        elif "reload-settings" in command[2]:
            self.done.append("level" if "printf" in command[2] else "back")
            return b"", b"connecting to 'unix:///var/run/charon.vici' failed", int(self.deaf)
        return b"", b"", 0


@pytest.fixture
def vpn(engine, load, up):  # type: ignore[no-untyped-def]
    """A lab with a gateway, as charon's service is all that counts."""
    up(load(), lab="small")
    for box in engine.boxes.values():
        if box.spec.hostname == "middle":
            labels = dict(box.spec.labels)
            labels["org.testbed.facts"] = (
                labels["org.testbed.facts"]
                .replace('"services": [', '"services": ["charon", ')
                .replace('"charon", ]', '"charon"]')
            )
            object.__setattr__(box.spec, "labels", labels)
    return engine


def test_associations_are_read() -> None:
    (one,) = parse_associations(LISTING.format(ike=3, child=5, old=4))
    assert (one.number, one.children, one.ours) == ("3", ("5",), True)
    assert one.spis.hex() == "59469318ea1b14b3f5a11ea00c9692d8"
    assert parse_associations("no sas\n") == []


def test_keys_are_logged_for_as_long_as_it_takes(vpn: FakeEngine) -> None:
    charon = vpn.command = Charon()
    said: list[str] = []
    with logged_keys(vpn, find_lab(vpn, "small"), said.append):
        assert charon.done == ["level", "--child-id 1", "--ike-id 1"]
    assert charon.done[3:] == ["back"] and said == []
    with pytest.raises(KeyboardInterrupt), logged_keys(vpn, find_lab(vpn, "small"), said.append):
        raise KeyboardInterrupt
    assert charon.done[-1] == "back"


def test_a_silent_peer_is_named(vpn: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decrypting, "_RENEWED", 0.2)
    charon = vpn.command = Charon(stuck=True)
    said: list[str] = []
    with logged_keys(vpn, find_lab(vpn, "small"), said.append):
        pass
    assert said == ["middle: its peer does not renew the keys; what they protect stays encrypted"]
    assert charon.done == ["level", "--child-id 1", "back"]


def test_where_there_is_nothing_to_decrypt(vpn: FakeEngine, engine, load, up) -> None:  # type: ignore[no-untyped-def]
    up(load(MOBILE), lab="plain")
    with pytest.raises(UsageError, match="no node of lab plain runs charon"):
        logged_keys(vpn, find_lab(vpn, "plain"), print).__enter__()
    vpn.command = Charon(deaf=True)
    with pytest.raises(TestbedError, match="charon of middle does not take another level") as caught:
        logged_keys(vpn, find_lab(vpn, "small"), print).__enter__()
    assert "charon.vici" in caught.value.message


def test_what_is_added_to_the_configuration_is_taken_away_again(tmp_path: Path) -> None:
    """The scripts, on a file here: each capture adds and removes lines of its own."""
    file = tmp_path / "strongswan.conf"
    file.write_text("charon {\n}\n")

    def run(script: str, mark: str) -> None:
        text = script.replace(decrypting._CONFIGURATION, str(file)).replace(
            "swanctl --reload-settings", "true"
        )
        subprocess.run(["sh", "-c", text, "sh", mark, decrypting._LEVELS], check=True)

    run(decrypting._BEGIN, "one")
    run(decrypting._BEGIN, "two")
    assert file.read_text().count("ike = 4") == 2
    run(decrypting._END, "one")
    assert file.read_text().count("ike = 4") == 1
    run(decrypting._END, "two")
    assert file.read_text() == "charon {\n}\n"
