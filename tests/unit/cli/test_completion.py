"""Completion as shells ask for it: through the environment, and once with a real bash in a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.cli import main

SMALL = "name: mine\n"


def complete(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    """The candidates for the last word of a line; it ends in a blank where that word has not begun."""
    words = line.split(" ")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    monkeypatch.setenv("_TESTBED_COMPLETE", "complete_bash")
    assert main([]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return out.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("up plain", ["plain-mip"]),
        ("up scenario-2.1 --stack ", ["mip-only", "mip-in-ipsec", "ipsec-in-mip"]),
        ("up scenario-2.1 --attach ho", ["hotel", "hotspot", "home"]),
        ("up scenario-2.1 --set ", ["network.", "node.", "option.", "image.", "role."]),
        ("up scenario-2.1 --set network.inter", ["network.internet."]),
        ("up scenario-2.1 --set network.internet.de", ["network.internet.delay="]),
        ("up scenario-2.1 --set node.mn.lif", ["node.mn.lifetime="]),
        ("up scenario-2.2 --set option.routing=", ["option.routing=adapted", "option.routing=unmodified"]),
        ("up scenario-2.1 --set image.home", ["image.home-agent="]),
        ("up scenario-2.1 --set role.home", ["role.home-agent="]),
        ("up scenario-2.1 --set role.home-agent=", ["role.home-agent=independent-ha"]),
        ("verify scenario-2.1 --claim 2.1-fa-mn", ["2.1-fa-mn-deaf"]),
        ("matrix --claim 2.1-fa-mn", ["2.1-fa-mn-deaf"]),
        ("measure handoff scenario-2.1 --between ho", ["hotel,", "hotspot,", "home,"]),
        ("measure handoff scenario-2.1 --between hotel,ai", ["hotel,airport"]),
        ("measure handoff plain-mip --stack ", ["mip-only"]),
        ("matrix --stack mip", ["mip-only", "mip-in-ipsec", "mip-in-ipsec-in-mip"]),
        ("vocabulary reach", ["reachable"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("up no-such-topology --stack ", []),
        ("up scenario-2.1 --set node.nobody.", []),
    ],
)
def test_words(
    line: str, expected: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert complete(capfd, monkeypatch, f"testbed {line}") == expected


def test_files(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("one.yaml", "two.yml", "other.txt", ".hidden.yaml"):
        (tmp_path / name).write_text(SMALL)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = ["folder/", "one.yaml", "two.yml"]
    assert complete(capfd, monkeypatch, f"testbed up {tmp_path}/") == [f"{tmp_path}/{one}" for one in found]
    assert complete(capfd, monkeypatch, f"testbed up {tmp_path}/o") == [f"{tmp_path}/one.yaml"]
    assert complete(capfd, monkeypatch, "testbed up ./") == [f"./{one}" for one in found]
    assert complete(capfd, monkeypatch, "testbed up ~/t") == ["~/two.yml"]
    assert complete(capfd, monkeypatch, "testbed validate fo") == ["folder/"]
    assert complete(capfd, monkeypatch, "testbed up /no/such/folder/x") == []


def test_scripts_and_no_other_way(capfd: pytest.CaptureFixture[str]) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        script = capfd.readouterr().out
        assert "testbed tb" in script and "_TESTBED_COMPLETE" in script
        if shell == "bash":
            subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert main(["--install-completion"]) == 2


def test_bash_completes_what_was_typed(tmp_path: Path) -> None:
    """`./tb` in a folder that is on no path, as a word of its own and behind an `=`."""
    testbed = shutil.which("testbed", path=str(Path(sys.executable).parent))
    assert testbed
    (tmp_path / "tb").symlink_to(testbed)
    leader, follower = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "PS1": "$ ", "TERM": "dumb", "HOME": str(tmp_path)}
    with subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=follower, stdout=follower, stderr=follower, cwd=tmp_path, env=environment,
        start_new_session=True,
    ) as bash:  # fmt: skip
        try:
            say(leader, 'eval "$(./tb completion bash)"; echo loaded$((1))\n', "loaded1")
            say(leader, "./tb vali\t", "./tb validate ")
            say(leader, "pla\t", "plain-mip ")
            say(leader, "\x15./tb up scenario-2.2 --set op\t", "--set option.")
            say(leader, "routing=un\t", "routing=unmodified ")
        finally:
            bash.kill()
            os.close(leader)
            os.close(follower)


def say(terminal: int, text: str, awaited: str) -> None:
    """Type, and read until what is awaited is on the screen."""
    os.write(terminal, text.encode())
    seen, end = "", time.monotonic() + 60
    while awaited not in re.sub(r"\x1b\[[0-9;?]*\w|[\r\x07]", "", seen):
        assert time.monotonic() < end, f"{awaited!r} is not in {seen!r}"
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 4096).decode(errors="replace")
