"""The wrapper `tb` on a machine made of shell scripts: what it runs and installs, what it adds to a call."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TB = Path(__file__).parents[2] / "tb"


class Checkout:
    """A folder with `tb`, and programs that write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a checkout"
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.bin.mkdir()
        self.folder.mkdir()
        self.log.touch()
        shutil.copy(TB, self.folder / "tb")
        (self.folder / "pyproject.toml").write_text("[project]\n")
        for tool in ("cat", "chmod", "cp", "dirname", "flock", "mkdir", "readlink", "sed", "sh", "sha256sum"):
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.program(self.bin / "id", "echo 0")
        self.program(self.bin / "apt-get", f"cp {self.bin}/sh.python {self.bin}/python3")
        # A Python 3.11 with venv: makes a .venv of scripts.
        self.program(
            self.bin / "sh.python",
            f'case "$1 $2" in "-m venv") mkdir -p "$3/bin"; cp {self.bin}/sh.venv "$3/bin/python";'
            f' cp {self.bin}/sh.venv "$3/bin/testbed";; esac',
        )
        self.program(
            self.bin / "sh.venv",
            'echo "TESTBED_INSTALL=${TESTBED_INSTALL:-}" >> ' + str(self.log) + "\n"
            'case $* in *"pip install"*) echo "$PIP_SAYS"; echo "$PIP_WARNS" >&2;; esac\nexit "${EXIT:-0}"',
        )

    def program(self, path: Path, script: str) -> None:
        path.write_text(f'#!/bin/sh\necho "${{0##*/}}" "$@" >> {self.log}\n{script}\n')
        path.chmod(0o755)

    def have_python(self) -> None:
        shutil.copy(self.bin / "sh.python", self.bin / "python3")

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "tb"), *arguments],
            cwd="/",
            env={"PATH": str(self.bin), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[str]:
        """What was called since the last time."""
        lines = self.log.read_text().splitlines()
        self.log.write_text("")
        return lines


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_a_bare_machine_gets_python_first(checkout):
    result = checkout.run("list")
    assert result.returncode == 0, result.stderr
    calls = checkout.calls()
    assert calls[1] == "apt-get install -qq --no-install-recommends python3 python3-venv"
    assert f"python -m pip install --disable-pip-version-check --editable {checkout.folder}" in calls
    assert calls[-2:] == ["testbed list", "TESTBED_INSTALL="]
    said = result.stderr.splitlines()
    assert len(said) == 3 and "installing python3 python3-venv" in said[0]
    assert result.stdout == ""


def test_an_ordinary_user_is_told_the_command(checkout):
    checkout.program(checkout.bin / "id", "echo 1000")
    result = checkout.run("list")
    assert result.returncode == 3
    assert "sudo apt-get install python3 python3-venv" in result.stderr
    assert not (checkout.folder / ".venv" / "bin").exists()


def test_a_python_that_is_too_old_has_a_newer_one_beside_it(checkout):
    checkout.program(checkout.bin / "python3", "exit 1")
    checkout.program(checkout.bin / "id", "echo 1000")
    assert "python3.11-venv" in checkout.run("list").stderr


def test_the_second_call_does_nothing_else(checkout):
    checkout.have_python()
    checkout.run("list")
    checkout.calls()
    result = checkout.run("show", "a b", "--x=$y")
    assert checkout.calls() == ["testbed show a b --x=$y", "TESTBED_INSTALL="]
    assert result.stderr == ""


def test_it_says_how_it_was_called(checkout):
    checkout.have_python()
    checkout.run("list")
    checkout.program(checkout.folder / ".venv" / "bin" / "testbed", 'echo "$TESTBED_COMMAND"')
    for call, told in ((["./tb"], "./tb"), (["sh", "tb"], "./tb"), (["a checkout/tb"], "a checkout/tb")):
        done = subprocess.run(
            [*call, "list"],
            cwd=checkout.folder.parent if "/tb" in call[0][2:] else checkout.folder,
            env={"PATH": str(checkout.bin)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == told + "\n"


def test_a_changed_pyproject_installs_anew_into_the_same_venv(checkout):
    checkout.have_python()
    checkout.run("list")
    checkout.calls()
    (checkout.folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    checkout.run("list")
    calls = checkout.calls()
    assert any("pip install" in call for call in calls) and not any("-m venv" in call for call in calls)


def test_a_checkout_that_moved_installs_anew(checkout, tmp_path):
    checkout.have_python()
    checkout.run("list")
    checkout.calls()
    checkout.folder = checkout.folder.rename(tmp_path / "elsewhere")
    checkout.run("list")
    assert any(f"--editable {tmp_path}/elsewhere" in call for call in checkout.calls())


@pytest.mark.parametrize(
    ("command", "may"),
    [
        (("up", "scenario-2.1"), "1"),
        (("-v", "up", "x"), "1"),
        (("build",), "1"),
        (("--context", "lab", "up", "x"), "1"),
        (("--context=lab", "up", "x"), "1"),
        (("--context", "up", "status"), ""),
        (("status",), ""),
        (("down", "up"), ""),
        ((), ""),
    ],
)
def test_only_what_needs_an_engine_may_install_one(checkout, command, may):
    checkout.have_python()
    checkout.run(*command)
    assert checkout.calls()[-1] == f"TESTBED_INSTALL={may}"


def test_its_exit_code_is_the_commands(checkout):
    checkout.have_python()
    checkout.run("list")
    assert checkout.run("list", EXIT="4").returncode == 4


def test_a_failed_install_is_tried_again(checkout):
    checkout.have_python()
    checkout.run("list")
    (checkout.folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    checkout.calls()
    assert checkout.run("list", EXIT="3").returncode == 3
    checkout.run("list")
    assert any("pip install" in call for call in checkout.calls())


def test_pip_is_heard_only_where_it_fails(checkout):
    checkout.have_python()
    words = {"PIP_SAYS": "Collecting docker", "PIP_WARNS": "WARNING: Location is ignored"}
    result = checkout.run("list", **words)
    assert result.returncode == 0 and result.stdout == "" and "docker" not in result.stderr
    assert len(result.stderr.splitlines()) == 2 and "WARNING" not in result.stderr
    (checkout.folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    result = checkout.run("list", EXIT="1", **words)
    assert result.returncode == 3 and result.stdout == ""
    assert all(word in result.stderr for word in words.values())


def test_the_suite_runs_in_two_parts_after_the_machine_was_prepared(checkout):
    checkout.have_python()
    assert checkout.run("test").returncode == 0
    calls = [call for call in checkout.calls() if not call.startswith("TESTBED_INSTALL")]
    assert any(call.endswith(f"--editable {checkout.folder}[test]") for call in calls)
    assert calls[-3:] == [
        "testbed doctor --fix --tests",
        "python -m pytest tests/unit tests/golden tests/errors tests/kernel --numprocesses auto",
        "python -m pytest tests/integration --numprocesses 4"
        " --dist loadfile --no-loadscope-reorder --durations 10",
    ]


def test_arguments_of_test_go_to_pytest(checkout):
    checkout.have_python()
    checkout.run("test", "-k", "relay and not slow")
    assert "python -m pytest -k relay and not slow" in checkout.calls()


@pytest.mark.parametrize(("ci", "runs"), [("true", False), ("", True)])
def test_a_machine_that_is_not_fit_stops_ci_only(checkout, ci, runs):
    checkout.have_python()
    checkout.run("test")
    checkout.program(checkout.folder / ".venv" / "bin" / "testbed", "exit 3")
    checkout.calls()
    result = checkout.run("test", CI=ci)
    assert any("pytest" in call for call in checkout.calls()) is runs
    assert result.returncode == (0 if runs else 3)


def test_the_two_parts_are_all_tests():
    parts = set(re.findall(r"tests/\w+", TB.read_text()))
    files = (TB.parent / "tests").rglob("test_*.py")
    folders = {"/".join(file.relative_to(TB.parent).parts[:2]) for file in files}
    assert folders - {"tests/projects"} == parts  # projects of other people: tests/integration runs them


def test_a_warm_call_runs_few_other_programs(checkout):
    """Each takes a millisecond or two; what may take longer (pip, another Python) is not among them."""
    checkout.have_python()
    checkout.run("list")
    for tool in checkout.bin.iterdir():
        if tool.is_symlink() and tool.name != "sh":
            place = tool.readlink()
            tool.unlink()
            checkout.program(tool, f'exec {place} "$@"')
    checkout.calls()
    checkout.run("list")
    *few, listed, _ = checkout.calls()
    assert listed == "testbed list"
    assert sorted(call.split()[0] for call in few) == ["dirname", "readlink", "sha256sum"]


def test_completion_installs_nothing(checkout: Checkout) -> None:
    """Where nothing is prepared yet, a press of TAB completes to nothing and does not wait for pip."""
    done = checkout.run(_TESTBED_COMPLETE="complete_bash", COMP_WORDS="./tb up ", COMP_CWORD="2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not [call for call in checkout.calls() if call.startswith(("apt-get", "python"))]
