"""A word is added by one file, and no other code changes.

An expectation in `testbed/claim/expect/` is read, checked, explained, said and judged; a step in
`testbed/claim/steps/` is read, checked, explained, said and carried out.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from walkthrough import COMPILING, do

ROOT = Path(__file__).parents[3]
WORD = '''\
from pydantic import Field

from testbed.claim.names import NodeName
from testbed.claim.seen import Counted
from testbed.claim.sight import Decision


class Routes(Counted):
    """Routes in the table of a node."""

    word = "kernel-routes"
    title = "Routes of a node"
    node: NodeName = Field(description="The node")

    def check(self, where, known, fail):
        if self.highest == 0:
            fail(where, "every node has a route")

    def phrase(self):
        return f"routes of {self.node}: {self.wanted}"

    def look(self, lab):
        return lab.execute(self.node, ["ip", "route"]).text.splitlines()

    def judge(self, sight):
        number = len(sight.seen)
        return Decision(self.allows(number), f"{number} routes", number > self.highest)
'''
TOPOLOGY = """\
name: own
title: A topology with a word of its own
include: [INCLUDED]
claims:
  mine:
    says: it has routes
    source: §1
    run: {steps: [{move: home}], expect: [{kernel-routes: {node: HA, NUMBER}}]}
    control: {steps: [{move: home}], expect: [{kernel-routes: {node: ha, at-least: many}}]}
"""
USE = """
from experiment_world import PlayedCaptures, PlayedLab
from testbed.claim.expect import Expectation
from testbed.experiment.claims.observer import Observer
from testbed.lab.inside import Done

lab = PlayedLab()
lab.outputs["ip"] = Done(0, b"default via 10.0.1.1\\n10.0.1.0/24 dev home\\n", b"")
expectation = Expectation.model_validate({"kernel-routes": {"node": "ha", "exactly": 2}, "within": "1s"})
decision = Observer(lab, PlayedCaptures(), 0).observe("expect/0", expectation)
print(f"{expectation.phrase()}: {decision.held}: {decision.observed}")
"""
STEP = '''\
from pydantic import Field

from testbed.claim.action import OfMobileNode
from testbed.document.values import Name


class Fill(OfMobileNode):
    """Let a mobile node send to a network as fast as it can."""

    word = "fill-link"
    title = "A link under load"

    SHORT = "to"
    to: Name = Field(description="The network")
    times: int = Field(default=1, ge=1, description="How often")

    def check_attachable(self, who, networks, where, fail):
        if self.to not in networks:
            fail((*where, "to"), f"{who} cannot fill {self.to}")

    def phrase(self):
        return f"fill {self.to}"

    def condition(self):
        return "the link cannot be filled"

    def taps(self, facts):
        return [f"{self.who(facts)}/{self.to}"]

    def act(self, lab):
        node = self.who(lab.facts)
        lab.at_end("load", lambda: lab.shell(node, "load off"))
        lab.note(f"load on {self.to}")
        return lab.execute(node, ["load", "on", self.to]).text
'''
STEP_TOPOLOGY = """\
name: own
title: A topology with a step of its own
include: [INCLUDED]
claims:
  mine:
    says: it fills a link
    source: §1
    run: {steps: [{fill-link: NETWORK}], expect: [{mobile-node: registered}]}
    control: {steps: [{fill-link: {to: hotel, node: NODE}}], expect: [{mobile-node: registered}]}
"""
STEP_USE = """
from experiment_world import PlayedCaptures, PlayedLab
from testbed.claim.steps import Step
from testbed.experiment.claims.observer import Observer
from testbed.experiment.claims.perform import Performer
from testbed.lab.inside import Done

lab = PlayedLab()
lab.outputs["on"] = Done(0, b"under load", b"")
performer = Performer(lab, Observer(lab, PlayedCaptures(), 0))
step = Step.model_validate({"fill-link": "hotel"})
print(step.phrase(), step.part.taps(lab.topology), performer.perform(step, "steps/0/fill"), performer.notes)
print(performer.undo(), [command[-1] for _, command in lab.ran])
"""


class Copy:
    """The product in a folder of its own, with one file more."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("testbed", "templates", "topologies", "images"):
            shutil.copytree(ROOT / name, folder / name, ignore=COMPILING)  # with what Python compiled
        python_path = f"{folder}:{ROOT / 'tests/unit/experiment'}"
        self._environment = {**os.environ, "PYTHONPATH": python_path, "PYTHONSAFEPATH": "1"}

    def run(self, code):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=self.folder, env=self._environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    def do(self, *doing):
        """What each command prints, in one process for all of them; writing a file prints nothing."""
        return [
            said
            for (program, *_), said in zip(doing, do(doing, self.folder), strict=True)
            if program == "./tb"
        ]


def validate(text, **words):
    """Write a topology with these words, and validate it."""
    text = text.replace("INCLUDED", str(ROOT / "topologies/scenario-2.1.yaml"))
    for word, written in words.items():
        text = text.replace(word, written)
    return ["write", "own.yaml", text], ["./tb", "validate", "own.yaml"]


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


def test_an_expectation_is_one_file(copy):
    (copy.folder / "testbed/claim/expect/routes.py").write_text(WORD)
    wrong, found, vocabulary, schema = copy.do(
        *validate(TOPOLOGY, HA="ha", NUMBER="exactly: 1"),
        *validate(TOPOLOGY, HA="haa", NUMBER="none: true", many="1"),
        ["./tb", "vocabulary", "kernel-routes"],
        ["./tb", "schema"],
    )
    place = "own.yaml:9:84: claims.mine.control.expect[0].kernel-routes.at-least"
    assert wrong == f"error: {place}: expected a whole number, got many\n"
    assert "own.yaml:8:66: claims.mine.run.expect[0].kernel-routes.node: unknown node haa" in found
    assert "claims.mine.run.expect[0].kernel-routes: every node has a route" in found
    assert "Routes in the table of a node." in vocabulary
    assert '"kernel-routes"' in schema
    assert copy.run(USE) == "routes of ha: exactly 2, within 1s: True: 2 routes\n"


def test_a_step_is_one_file(copy):
    (copy.folder / "testbed/claim/steps/fill.py").write_text(STEP)
    ok, told, names, number, vocabulary, schema = copy.do(
        *validate(STEP_TOPOLOGY, NETWORK="hotel", NODE="mn"),
        ["./tb", "explain", "mine", "own.yaml"],
        *validate(STEP_TOPOLOGY, NETWORK="nowhere", NODE="ha"),
        *validate(STEP_TOPOLOGY, NETWORK="{to: hotel, times: 0}", NODE="mn"),
        ["./tb", "vocabulary", "fill-link"],
        ["./tb", "schema"],
    )
    assert ok == "own.yaml: ok\n"
    assert "1. fill hotel\n      (Let a mobile node send to a network as fast as it can)" in told
    assert "inconclusive as well, where the link cannot be filled" in told
    assert "own.yaml:8:31: claims.mine.run.steps[0].fill-link.to: mn cannot fill nowhere" in names
    assert "own.yaml:9:53: claims.mine.control.steps[0].fill-link.node: ha is no mobile node" in names
    assert "steps[0].fill-link.times: expected a number of 1 or more, got 0" in number
    assert "Let a mobile node send to a network" in vocabulary
    assert '"fill-link"' in schema
    assert copy.run(STEP_USE).splitlines() == [
        "fill hotel ['mn/hotel'] under load ['load on hotel']",
        "[] ['hotel', 'load off']",
    ]
