"""The files for CI systems: they are what their schemas say, and every command in them works as it stands.

The action installs testbed into a clean environment outside the checkout, as its users would.
"""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCHEMAS = {
    ".github/workflows/ci.yml": "github-workflows",
    ".github/workflows/matrix.yml": "github-workflows",
    "action.yml": "github-actions",
    ".gitlab-ci.yml": "gitlab-ci",
}
SMALL = ROOT / "tests/projects/plugin/mine.yaml"  # two nodes
SCENARIO, CLAIM = "scenario-2.1", "2.1-wlan-outside"
"""A claim that one lab of five nodes decides: all claims are for test_claims.py, here are the commands."""


@pytest.mark.parametrize(("file", "schema"), SCHEMAS.items())
def test_a_file_is_what_its_schema_says(file, schema):
    def check(path):
        command = ["check-jsonschema", "--builtin-schema", f"vendor.{schema}", path]
        return subprocess.run(command, capture_output=True, text=True, env=_with_tools())

    assert (done := check(ROOT / file)).returncode == 0, done.stdout


def test_a_file_that_is_not_is_found(tmp_path):
    wrong = tmp_path / "ci.yml"
    wrong.write_text((ROOT / ".github/workflows/ci.yml").read_text().replace("runs-on", "run-on"))
    command = ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", wrong]
    assert subprocess.run(command, capture_output=True, env=_with_tools()).returncode == 1


def _with_tools():
    """The environment, with the programs beside the Python that runs the tests."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


class Runner:
    """Runs the steps of a job one after the other, as a GitHub runner does, in a folder of its own.

    Its checkout is this one: `tb` and `.ci/run` are links to it, so that nothing is installed twice.
    """

    def __init__(self, folder, **expressions):
        self.work, self.temp = folder / "work", folder / "temp"
        for each in (self.work / ".ci", self.temp, folder / "bin"):
            each.mkdir(parents=True)
        (self.work / "tb").symlink_to(ROOT / "tb")
        (self.work / ".ci/run").symlink_to(ROOT / ".ci/run")
        sudo = folder / "bin/sudo"  # the tests are root already, and may have none
        sudo.write_text('#!/bin/sh\nexec "$@"\n')
        sudo.chmod(0o755)
        self.files = {
            name: folder / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")
        }
        self.path = [str(folder / "bin")]
        self.expressions = {"runner.temp": str(self.temp), "github.action_path": str(ROOT), **expressions}
        self.ran = []

    def evaluate(self, text):
        """The text with its expressions replaced; one that nobody gave a value to is an error of the test."""
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda match: self.expressions[match[1]], str(text))

    def run(self, steps):
        for step in steps:
            if "run" not in step:
                assert "uses" in step
                continue
            for file in self.files.values():
                file.touch()
            env = {name: self.evaluate(value) for name, value in step.get("env", {}).items()}
            env |= {name: str(file) for name, file in self.files.items()}
            env |= {"PATH": ":".join([*self.path, os.environ["PATH"]])}
            done = self.shell(step["run"], env)
            assert done.returncode == 0, f"{step['run']}\n{done.stdout}{done.stderr}"
            outputs = dict(
                line.split("=", 1) for line in self.files["GITHUB_OUTPUT"].read_text().splitlines()
            )
            for name, value in outputs.items():
                self.expressions[f"steps.{step.get('id')}.outputs.{name}"] = value
            self.path = [*self.files["GITHUB_PATH"].read_text().split(), *self.path[-1:]]
            self.ran.append(step["run"])

    def shell(self, script, env):
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        outer["PIP_COMPILE"] = "0"  # Python compiles the little of it that is used here
        return subprocess.run(command, cwd=self.work, env=outer | env, capture_output=True, text=True)


def _document(name):
    return yaml.safe_load((ROOT / name).read_text())


def test_the_workflow_of_the_tests(tmp_path):
    (job,) = _document(".github/workflows/ci.yml")["jobs"].values()
    runner = Runner(tmp_path, **{"vars.TESTS": "tests/unit/test_agreed.py"})
    runner.run(job["steps"])
    assert any(".ci/run" in one for one in runner.ran)


def test_the_workflow_of_the_matrix_and_the_action(tmp_path, node_image):
    jobs = _document(".github/workflows/matrix.yml")["jobs"]
    runner = Runner(tmp_path)
    runner.run(jobs["scenarios"]["steps"])
    listed = yaml.safe_load(runner.expressions["steps.list.outputs.matrix"])["include"]
    assert SCENARIO in [one["scenario"] for one in listed]
    (use,) = [one for one in jobs["verify"]["steps"] if one["uses"] == "./"]
    inputs = {name: one.get("default", "") for name, one in _document("action.yml")["inputs"].items()}
    runner.expressions["matrix.scenario"] = SCENARIO
    inputs |= {name: runner.evaluate(value) for name, value in use["with"].items()} | {"claims": CLAIM}
    runner.expressions |= {f"inputs.{name}": value for name, value in inputs.items()}
    runner.expressions["steps.cache.outputs.cache-hit"] = ""
    steps = _document("action.yml")["runs"]["steps"]
    runner.run(steps)
    results = runner.temp / "testbed-results"
    assert {one.name for one in results.iterdir()} == {"evidence.zip", "junit.xml", "report.html"}
    (suite,) = ET.parse(results / "junit.xml").getroot()
    assert suite.get("tests") == "1" and suite.get("failures") == suite.get("errors") == "0"
    assert "### 1 of 1 claims reproduced" in runner.files["GITHUB_STEP_SUMMARY"].read_text()
    runner.expressions["steps.cache.outputs.cache-hit"] = "true"
    runner.run([one for one in steps if one.get("name") == "Node image"])
    a_lab_comes_up_with_what_is_installed(runner)


@pytest.mark.parametrize(
    ("scenario", "asked", "name"),
    [
        (SCENARIO, "", f"testbed-{SCENARIO}"),
        ("solutions/mobike tests/mine.yaml", "", "testbed-solutions-mobike-tests-mine.yaml"),
        (SCENARIO, "of a/b", "of-a-b"),
    ],
)
def test_the_artifact_of_the_action_has_a_name_that_github_takes(tmp_path, scenario, asked, name):
    runner = Runner(tmp_path)
    stub = tmp_path / "bin/testbed"  # what it decides is for the test above
    stub.write_text("#!/bin/sh\n")
    stub.chmod(0o755)
    inputs = {"scenario": scenario, "artifact": asked, "claims": "", "options": "", "retries": "0"}
    runner.expressions |= {f"inputs.{key}": value for key, value in inputs.items()}
    steps = _document("action.yml")["runs"]["steps"]
    runner.run([one for one in steps if one.get("id") == "verify"])
    (upload,) = [one for one in steps if "upload-artifact" in one.get("uses", "")]
    assert runner.evaluate(upload["with"]["name"]) == name


def a_lab_comes_up_with_what_is_installed(runner):
    """The action has installed the wheel into an environment of its own; nothing of the checkout is used."""
    lab, env = f"wheel-{uuid4().hex[:8]}", {"PATH": ":".join([*runner.path, os.environ["PATH"]])}
    shutil.copy(SMALL, runner.temp)
    up = f"testbed up {SMALL.name} --name {lab} && testbed exec {lab} ha -- true"
    try:
        for command in ("readlink -f $(dirname $(command -v testbed))", up):
            done = runner.shell(f"cd {runner.temp} && {command}", env)
            assert done.returncode == 0 and str(ROOT) not in done.stdout, done.stdout + done.stderr
    finally:
        done = runner.shell(f"testbed down {lab}", env)
    assert done.returncode == 0, done.stderr


def test_the_file_for_gitlab(tmp_path, node_image):
    job = _document(".gitlab-ci.yml")["matrix"]
    runner = Runner(tmp_path)
    lines = [line for line in job["script"] if "apt-get" not in line]
    assert len(lines) == len(job["script"]) - 1
    lines = [f"{line} --scenario {SMALL} --claim at-home" if "tb matrix" in line else line for line in lines]
    env = {"CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "1"}
    for line in [*lines, *job["after_script"]]:
        done = runner.shell(line, env)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    for file in [*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]]:
        assert (runner.work / file).is_file()
