"""The program in the image that finds drift, with `ip`, `nft` and `sv` played."""

from __future__ import annotations

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


def drift(node: Path, rules: list[str], *words: str) -> str:
    (node / "rules").write_text("".join(f"{rule}\n" for rule in rules))
    path = f"{node}/bin:{os.environ['PATH']}"
    command = ["sh", f"{node}/drift", *words]
    done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=True)
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
