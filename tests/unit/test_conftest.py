"""What tests/conftest.py makes of tests that skip themselves or run programs that a fresh machine lacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
ITSELF = """
import pytest

def test_skips_itself():
    pytest.skip("no such tool")

@pytest.mark.skip(reason="not today")
def test_marked():
    pass

@pytest.mark.xfail(reason="a known fault")
def test_fails_as_expected():
    assert False
"""
MODULE = """
import pytest

pytest.importorskip("no_such_module")
"""
KERNEL = """
import pytest

@pytest.fixture(scope="session")
def kernel():
    return {"ipip": "Operation not supported", "tun": ""}

@pytest.mark.kernel("ipip")
def test_not_there():
    assert False

@pytest.mark.kernel("tun")
def test_there():
    pass

@pytest.mark.kernel("tun")
def test_there_and_skips_for_another_reason():
    pytest.skip("no such tool")
"""
PROGRAMS = """
import subprocess, sys

def test_of_a_fresh_machine():
    subprocess.run([sys.executable, "-c", ""], check=True)
    subprocess.run(["sh", "-c", "true"], check=True)

def test_of_this_one():
    subprocess.run(["tcpdump", "--version"])

def test_by_path():
    subprocess.run(["/usr/bin/env"])

def test_missing_but_on_the_list():
    subprocess.run(["tshark"], env={"PATH": "/nowhere"})

def test_its_own(tmp_path):
    tool = tmp_path / "tcpdump"
    tool.write_text("#!/bin/sh\\n")
    tool.chmod(0o755)
    subprocess.run(["tcpdump"], env={"PATH": str(tmp_path)}, check=True)
"""


FILES = {"itself": ITSELF, "module": MODULE, "kernel": KERNEL, "programs": PROGRAMS}


@pytest.fixture(scope="module", params=["true", ""], ids=["CI=true", "no CI"])
def run(request, tmp_path_factory):
    """Run those tests below this conftest in a pytest of their own: whether with CI, and what it said."""
    folder = tmp_path_factory.mktemp("tests")
    for name in ("conftest.py", "namespaces.py"):
        (folder / name).write_text((TESTS / name).read_text())
    (folder / "pyproject.toml").write_text(PYPROJECT.read_text())
    for name, text in FILES.items():
        (folder / f"test_{name}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--continue-on-collection-errors", "."],
        cwd=folder,
        env={**os.environ, "CI": request.param},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return request.param == "true", done.stdout.splitlines()


def said(lines, *words):
    """Whether a line has all these words."""
    return any(all(word in line for word in words) for line in lines)


def test_a_skip_is_a_failure_with_ci(run):
    ci, lines = run
    failed = "with CI=true a skip is a failure"
    for reason in ("no such tool", "not today", "no_such_module"):
        assert said(lines, failed, reason) is ci
        assert said(lines, "SKIPPED", reason) is not ci
    assert said(lines, "XFAIL", "test_fails_as_expected")


def test_what_the_kernel_lacks_is_skipped_by_name(run):
    ci, lines = run
    assert said(lines, "SKIPPED", "this kernel lacks ipip: Operation not supported")
    assert said(lines, "FAILED", "test_there_and_skips_for_another_reason") is ci


def test_programs_of_this_machine_fail_a_test(run):
    ci, lines = run
    assert said(lines, "FAILED", "test_of_this_one", "tests run tcpdump")
    assert said(lines, "FAILED", "test_by_path", "tests run /usr/bin/env")
    assert said(lines, "tshark is missing: testbed doctor --fix --tests installs it")
    assert said(lines, "FAILED", "test_missing_but_on_the_list") is ci


def test_the_others_pass(run):
    ci, lines = run
    assert said(lines[-1:], *(["5 failed", "3 passed", "1 skipped"] if ci else ["2 failed", "3 passed"]))
