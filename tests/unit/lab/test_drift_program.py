"""The program in the image that finds drift, with `ip`, `nft` and `sv` played."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from testbed import agreed
from testbed.data import data_dir
from testbed.render.templates import Templates

GATE = {"node": {"hub_network": "internet"}}
RULE = f"{agreed.HUB_PREFERENCE}:\tfrom all iif internet lookup {agreed.HUB_TABLE}"
KERNEL = "0:\tfrom all lookup local"
POLICY = "100:\tfrom 203.0.113.2 lookup main"


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A folder in place of a hub's root, with programs that print what is in files."""
    for folder in ("bin", "run", "etc", "etc/services"):
        (tmp_path / folder).mkdir()
    program = (data_dir("images") / "drift").read_text()
    program = program.replace("/run/testbed", f"{tmp_path}/run").replace("/etc/testbed", f"{tmp_path}/etc")
    (tmp_path / "drift").write_text(program)
    (tmp_path / "etc" / "links").write_text("internet 203.0.113.1/24\n")
    (tmp_path / "etc" / "gate").write_text(Templates().render("routing/gate.j2", GATE))
    for name, body in (("ip", f"cat >/dev/null; cat {tmp_path}/rules"), ("nft", ":"), ("sv", ":")):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def drift(node: Path, rules: list[str], *words: str, files: str = "") -> str:
    (node / "rules").write_text("".join(f"{rule}\n" for rule in rules))
    path = f"{node}/bin:{os.environ['PATH']}"
    command = ["sh", f"{node}/drift", *words]
    done = subprocess.run(
        command, env={"PATH": path}, input=files, capture_output=True, text=True, check=True
    )
    assert not done.stderr
    assert words or done.stdout.rpartition("now ")[2].strip()  # the last line is the time
    return done.stdout.rpartition("now ")[0]


def test_a_link_that_was_cut_is_named(node: Path) -> None:
    drift(node, [KERNEL], "save")
    assert drift(node, [KERNEL]) == ""
    (node / "run" / "failed").mkdir()
    (node / "run" / "failed" / "internet").touch()
    assert drift(node, [KERNEL]) == "failed internet\n"


def test_the_gate_of_a_hub_opens_and_closes_and_other_rules_do_not(node: Path) -> None:
    drift(node, [KERNEL, POLICY, RULE], "save")
    assert drift(node, [KERNEL, POLICY, RULE]) == ""
    assert drift(node, [KERNEL, POLICY]) == ""
    assert drift(node, [KERNEL, RULE]) == "lost rule 100: from 203.0.113.2 lookup main\n"
    (node / "etc" / "gate").unlink()
    assert drift(node, [KERNEL, POLICY]) == f"lost rule {RULE.replace(chr(9), ' ')}\n"


def test_files_that_were_edited_or_are_gone(node: Path) -> None:
    drift(node, [KERNEL], "save")
    content = (node / "etc" / "links").read_bytes()
    files = f"{hashlib.sha256(content).hexdigest()}  {node}/etc/links\n{'0' * 64}  {node}/etc/gone\n"
    assert drift(node, [KERNEL], files=files) == f"edited {node}/etc/gone\n"
    (node / "etc" / "links").write_text("internet 203.0.113.9/24\n")
    assert drift(node, [KERNEL], files=files).startswith(f"edited {node}/etc/links\n")


def test_what_was_added_and_no_daemon_adds(node: Path) -> None:
    (node / "etc" / "gate").unlink()
    drift(node, [KERNEL], "save")
    added = [
        "99:\tfrom all to 192.0.2.0/24 lookup 7", "220:\tnot from all fwmark 0x42 lookup 220",
        "230:\tfrom all lookup 434 proto 143", "192.0.2.0/24 via 203.0.113.9 dev internet",
        "10.0.0.0/8 dev ipsec0 table 220 proto static", "192.0.2.7 dev mip0 proto 143 scope link",
    ]  # fmt: skip
    assert drift(node, [KERNEL, *added]).splitlines() == [
        "more route 192.0.2.0/24 via 203.0.113.9 dev internet",
        "more rule 99: from all to 192.0.2.0/24 lookup 7",
    ]


def test_rules_of_nftables_are_those_of_a_chain(node: Path) -> None:
    def ruleset(*rules: str) -> None:
        chain = "".join(f"\t\t{rule}\n" for rule in rules)
        (node / "bin" / "nft").write_text(f"#!/bin/sh\ncat <<E\n{text}\nE\n".replace("CHAIN", chain))

    text = "table inet gate {\n\tchain forward {\nCHAIN\t}\n}"
    ruleset("counter drop")
    drift(node, [KERNEL], "save")
    text += "\ntable inet daemons {\n\tchain own {\n\t\taccept\n\t}\n}"
    ruleset("counter accept")
    assert drift(node, [KERNEL]).splitlines() == [
        "lost nftables inet gate forward: counter drop",
        "more nftables inet gate forward: counter accept",
    ]
