"""Nodes that somebody worked in: what differs from what was rendered, put back, and services restarted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from lab_world import MOBILE, SMALL, Daemons, Told

from testbed.engine.fake import FakeContainer, FakeEngine
from testbed.errors import NotReadyError, TestbedError, UsageError
from testbed.lab.differ import find_changes
from testbed.lab.reset import reset_lab
from testbed.lab.restart import NFTABLES, Restarted, restart
from testbed.lab.state import find_lab
from testbed.lab.up import BroughtUp
from testbed.topology.loaded import LoadedTopology

Up = Callable[..., BroughtUp]
Load = Callable[..., LoadedTopology]
HA = "/etc/mobileip/home-agent.toml"


def test_what_differs_comes_from_the_nodes_and_what_was_rendered(
    engine: FakeEngine, up: Up, load: Load, daemons: Daemons
) -> None:
    up(load(MOBILE, "option.attach=hotel"), lab="mip")
    assert not any(each.any for each in find_changes(engine, "mip").values())
    rendered = engine.box("ha").file(HA)
    daemons.drift["ha"] = f"edited {HA}\nlost route default\nmore rule 99: x\nadded address 1.2.3.4/8 on home"
    daemons.files["ha", HA] = rendered.replace("lifetime = 600", "lifetime = 60")
    daemons.drift["cn"] = "paused x\nmore file /etc/nftables.d/mine.nft"
    daemons.files["cn", "/etc/nftables.d/mine.nft"] = "table ip mine {}\n"
    found = find_changes(engine, "mip")
    assert [name for name, each in found.items() if each.any] == ["cn", "ha"]
    ha, cn = found["ha"], found["cn"]
    assert [line for line in ha.files[0].unified("ha").splitlines() if line[0] in "+-"] == [
        f"--- ha:{HA}", f"+++ ha:{HA}", "-lifetime = 600", "+lifetime = 60",
    ]  # fmt: skip
    assert (ha.lost, ha.added) == (("route default",), ("address 1.2.3.4/8 on home", "rule 99: x"))
    assert cn.paused == ("x",) and cn.files[0].unified("cn").startswith("--- /dev/null\n+++ cn:/etc")
    del daemons.files["ha", HA]
    assert find_changes(engine, "mip", ["ha"])["ha"].files[0].now is None
    with pytest.raises(UsageError, match="no node hb"):
        find_changes(engine, "mip", ["hb"])


def test_reset_makes_those_anew_that_differ_and_up_leaves_what_was_added(
    engine: FakeEngine, up: Up, daemons: Daemons, told: Told
) -> None:
    up()
    daemons.drift = {"west": "more rule 99: x", "east": "edited /etc/testbed/links"}
    before = {name: each.id for name, each in find_lab(engine, "small").nodes.items()}
    done = reset_lab(engine, "small", ["west"], progress=told)
    assert (done.created, told.said[-1]) == (1, "  west: added rule 99: x")
    daemons.drift.pop("west")
    assert not reset_lab(engine, "small", ["west"]).changed
    daemons.drift["west"] = "more rule 99: x"
    assert up().created == 1  # east alone, whose file was edited
    assert told.said[-1] == "  east: edited /etc/testbed/links"
    after = {name: each.id for name, each in find_lab(engine, "small").nodes.items()}
    assert {name for name in after if after[name] != before[name]} == {"west", "east"}


def test_a_topology_that_has_changed_or_gone_since_is_no_yardstick(
    engine: FakeEngine, up: Up, load: Load, tmp_path: Path
) -> None:
    up(load(SMALL))
    (tmp_path / "small.yaml").write_text(SMALL.replace("10.1.0.2", "10.1.0.9"))
    with pytest.raises(UsageError, match=r"not what lab small was brought up from any more: west: links"):
        reset_lab(engine, "small")
    shutil.move(tmp_path / "small.yaml", tmp_path / "other.yaml")
    with pytest.raises(UsageError, match=r"lab small was brought up from .*small.yaml: no such file"):
        find_changes(engine, "small")


class Supervised:
    """A node with a supervisor: what it starts again says whether it came up."""

    def __init__(self, *, end: str = "ready", rules: bytes = b"") -> None:
        self.end, self.rules = end, rules
        self.started: list[str] = []

    def __call__(self, box: FakeContainer, command: Sequence[str], stdin: bytes) -> tuple[bytes, bytes, int]:
        script = command[-1] if len(command) == 3 else command[2] if len(command) > 3 else ""
        if command[0] == "cat":
            return json.dumps({"ready": ["init", "home-agent", "charon"]}).encode(), b"", 0
        if "nft --file -" in script:
            return b"", self.rules, int(bool(self.rules))
        if "force-stop" in script:
            self.started += [folder.rpartition("/")[2] for folder in command[4:]]
            for service in self.started:
                box.event("exit", service, monotonic=99.0, code=-1, status=15)  # what was stopped
                if self.end == "ready":
                    box.event("ready", service, monotonic=100.5)
                elif self.end == "exit":
                    box.write("# a warning", "stderr")
                    box.write("home-agent.toml:9:12: Invalid value", "stderr")
                    box.event("exit", service, monotonic=100.2, code=4, status=0)
            return b"100.00\n", b"", 0
        if "sed -n" in script:
            return b"loading connection 'clients' failed\n", b"", 1
        return b"charon\nhome-agent\nquiet\nnftables\n", b"", 0


def again(engine: FakeEngine, node: Supervised, *services: str) -> list[Restarted]:
    engine.command = node
    return restart(engine, find_lab(engine, "small").nodes["west"], "west", services, within=0.3)


def test_what_is_restarted_has_to_report_again(engine: FakeEngine, up: Up) -> None:
    up()
    node = Supervised()
    rules = Restarted(NFTABLES, None)
    ready = [Restarted("charon", 0.5), Restarted("home-agent", 0.5), Restarted("quiet", None)]
    assert again(engine, node) == [rules, *ready]
    assert node.started == ["charon", "home-agent", "quiet"]
    assert again(engine, Supervised(), NFTABLES) == [rules]
    with pytest.raises(UsageError, match=r"no service hone-agent(.|\n)*mean home-agent"):
        again(engine, node, "hone-agent")


def test_what_ends_again_or_is_not_ready_says_why(engine: FakeEngine, up: Up) -> None:
    up()
    with pytest.raises(TestbedError, match=r"ended again \(exit code 4\); .* words:\n  home-agent.toml:9"):
        again(engine, Supervised(end="exit"), "home-agent")
    with pytest.raises(NotReadyError, match=r"charon of west not ready(.|\n)*connection 'clients' failed"):
        again(engine, Supervised(end="silence"), "charon")
    broken = Supervised(rules=b"# Warning: x\n/etc/nftables.d/a.nft:2:7-10: Error: syntax error\n")
    with pytest.raises(TestbedError, match=r"the old ones stay\n  /etc/nftables.d/a.nft:2:7-10"):
        again(engine, broken)
    assert not broken.started
