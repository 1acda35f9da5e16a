"""A word is added by one file in `testbed/claim/expect/`: it is read, checked, explained, said and judged."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

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


def test_a_word_is_one_file(tmp_path):
    for folder in ("testbed", "templates", "topologies", "images"):
        shutil.copytree(ROOT / folder, tmp_path / folder)  # with what Python compiled
    (tmp_path / "testbed/claim/expect/routes.py").write_text(WORD)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}:{ROOT / 'tests/unit/experiment'}",
        "PYTHONSAFEPATH": "1",
    }

    def run(*arguments):
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    def validate(**words):
        text = TOPOLOGY.replace("INCLUDED", str(ROOT / "topologies/scenario-2.1.yaml"))
        for word, written in words.items():
            text = text.replace(word, written)
        (tmp_path / "own.yaml").write_text(text)
        return run("-m", "testbed", "validate", "own.yaml")

    place = "own.yaml:9:84: claims.mine.control.expect[0].kernel-routes.at-least"
    assert validate(HA="ha", NUMBER="exactly: 1") == f"error: {place}: expected a whole number, got many\n"
    found = validate(HA="haa", NUMBER="none: true", many="1")
    assert "own.yaml:8:66: claims.mine.run.expect[0].kernel-routes.node: unknown node haa" in found
    assert "claims.mine.run.expect[0].kernel-routes: every node has a route" in found
    assert "Routes in the table of a node." in run("-m", "testbed", "vocabulary", "kernel-routes")
    assert '"kernel-routes"' in run("-m", "testbed", "schema")
    assert run("-c", USE) == "routes of ha: exactly 2, within 1s: True: 2 routes\n"
