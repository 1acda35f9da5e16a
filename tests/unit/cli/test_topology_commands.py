from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from testbed.cli import main
from testbed.cli.app import app
from testbed.cli.output import console
from testbed.topology.load import builtin_topologies, load_topology

ERRORS = Path(__file__).parents[2] / "errors"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    streams = capsys.readouterr()
    return code, streams.out, streams.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, _ = run(capsys, *arguments, "-o", "json")
    assert code == 0
    data: dict[str, Any] = json.loads(out)
    assert next(iter(data)) == "schema_version"
    return data


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "list")
    assert (code, err) == (0, "")
    assert "plain-mip" in out and "MIPv4 HA(s) inside the Intranet" in out
    topologies = run_json(capsys, "list")["topologies"]
    assert [one["name"] for one in topologies] == list(builtin_topologies())
    assert set(topologies[0]) == {"name", "title", "source", "summary", "file"}


@pytest.mark.parametrize("name", builtin_topologies())
def test_show(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "show", name)
    assert (code, err) == (0, "")
    data = run_json(capsys, "show", name)
    for network, facts in data["networks"].items():
        assert network in out and facts["subnet"] in out
    for node, facts in data["nodes"].items():
        assert node in out and all(role in out for role in facts["roles"])
    assert not any(line.endswith(" ") for line in out.splitlines())


def test_show_with_sets(capsys: pytest.CaptureFixture[str]) -> None:
    sets = [
        "--set",
        "network.internet.delay=1.5s",
        "--set",
        "network.internet.loss=0.5%",
        "--set",
        "network.internet.rate=10mbit",
        "--set",
        "stack=mip-only",
    ]
    data = run_json(capsys, "show", "scenario-2.1", *sets)
    assert data["networks"]["internet"]["delay_ms"] == 1500
    assert data["options"]["stack"]["value"] == "mip-only"
    assert data["nodes"]["mn"]["settings"]["lifetime"] == "10min"
    assert data["nodes"]["gw"]["links"]["internet"] == "203.0.113.2/32"
    assert "core 1.5s, 0.5% lost, 10mbit" in run(capsys, "show", "scenario-2.1", *sets)[1]


def test_show_says_each_claim_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "show", "scenario-2.1")[1]
    claim = run_json(capsys, "show", "scenario-2.1")["claims"]["2.1-fa-mn-deaf"]
    shown = out[out.index("2.1-fa-mn-deaf") : out.index("2.1-fa-blocks-ipsec")]
    assert "control: stack mip-in-ipsec, attach home" in shown
    for kind in ("run", "control"):
        (one,) = claim[kind]
        assert one["options"] == {"stack": "mip-in-ipsec", "attach": "home"}
        for text in (claim["says"], claim["source"], *one["steps"], *one["expect"]):
            assert text in shown


def test_show_as_yaml(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "show", "scenario-2.1", "--yaml", "--set", "stack=mip-only")
    assert (code, err) == (0, "")
    assert "default: mip-only  # --set stack=mip-only" in out and "include" not in out
    file = tmp_path / "resolved.yaml"
    file.write_text(out)
    assert run(capsys, "validate", str(file))[0] == 0
    assert run_json(capsys, "show", str(file))["options"]["stack"]["default"] == "mip-only"
    assert run(capsys, "show", "scenario-2.1", "--yaml", "-o", "json")[0] == 2


def test_validate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ERRORS)
    code, out, err = run(capsys, "validate", "plain-mip", "addresses.yaml", "hubs.yaml")
    assert code == 4
    assert out == "plain-mip: ok\n"
    assert "error: addresses.yaml:7:37: nodes.a.links.net: 192.0.2.0 is the network address" in err
    assert "  hint: the first host is 192.0.2.1" in err
    assert "error: hubs.yaml:4:52:" in err
    assert "4 errors" in err
    code, out, err = run(capsys, "validate", "empty.yaml", "-o", "json")
    assert (code, err) == (4, "")
    assert json.loads(out)["files"] == [
        {
            "file": "empty.yaml",
            "valid": False,
            "errors": [
                {
                    "message": "the file is empty: expected a mapping",
                    "hint": "write lines of KEY: VALUE",
                    "file": "empty.yaml",
                    "line": 1,
                    "column": 1,
                }
            ],
        }
    ]
    assert run(capsys, "validate", "missing.yaml")[0] == 2
    assert run(capsys, "validate", "missing.yaml", "empty.yaml")[0] == 4


def test_validate_what_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "validate", "plain-mip", "--set", "node.mn.lifetime=60s") == (0, "plain-mip: ok\n", "")
    code, out, err = run(capsys, "validate", "plain-mip", "--set", "node.mn.encapsulation=esp")
    assert (code, out) == (2, "")
    assert "--set node.mn.encapsulation=esp" in err and "ip-in-ip" in err
    assert run(capsys, "validate", "plain-mip", "--set", "node.mn.home-address=203.0.113.2")[0] != 0


def test_render(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "files"
    data = run_json(capsys, "render", "plain-mip", "-d", str(folder))
    for node, paths in data["nodes"].items():
        assert "/etc/testbed/links" in paths
        assert all((folder / node / path.lstrip("/")).is_file() for path in paths)
    assert (folder / "ha/etc/mobileip/home-agent.toml").stat().st_mode & 0o777 == 0o600
    code, _, err = run(capsys, "render", "plain-mip", "-d", str(folder))
    assert code == 2 and "is not empty" in err and "--force" in err
    assert run(capsys, "render", "plain-mip", "-d", str(folder), "--force")[0] == 0
    assert run(capsys, "render", "plain-mip", "-d", str(folder / "ha/etc/testbed/links"))[0] == 2
    below = folder / "ha/etc/testbed/links/below"
    code, _, err = run(capsys, "render", "plain-mip", "-d", str(below))
    assert code == 2 and f"cannot write {below}/" in err and "Not a directory" in err


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "schema")
    assert code == 0 and json.loads(out)["properties"]["networks"]
    assert json.loads(run(capsys, "schema", "role")[1])["properties"]["topology-needs"]


@pytest.mark.parametrize("arguments", [["-h"], ["show", "--help"], ["--version"]])
def test_help_is_quiet_on_stderr(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "") and out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nonsense"], 2, "nonsense"),
        (["show"], 2, "Missing argument"),
        (["show", "plain-mpi"], 2, "did you mean plain-mip?"),
        (["show", "plain-mip", "--set", "stack=x"], 2, "--set stack=x: expected one of mip-only"),
        (["show", "plain-mip", "-o", "xml"], 2, "xml"),
        (["show", "plain-mip", "--templates", "/does/not/exist"], 2, "does not exist"),
    ],
)
def test_errors_go_to_stderr(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result, out, err = run(capsys, *arguments)
    assert (result, out) == (code, "")
    assert words in err


def test_our_own_mistakes_say_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("oops")

    monkeypatch.setattr("testbed.topology.load.load_topology", broken)
    code, out, err = run(capsys, "show", "plain-mip")
    assert (code, out) == (1, "")
    assert "a mistake in testbed itself: ValueError: oops" in err and "Traceback" not in err
    assert "Traceback" in run(capsys, "show", "plain-mip", "-vv")[2]
    assert "Traceback" in run(capsys, "-vv", "show", "plain-mip")[2]


def test_interrupt(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("testbed.topology.load.load_topology", interrupted)
    assert run(capsys, "show", "plain-mip")[0] == 130


def test_interrupted_again_while_threads_still_work() -> None:
    code = """
import concurrent.futures, sys, time
from testbed import cli
from testbed.topology import load

def interrupted(*_, **__):
    concurrent.futures.ThreadPoolExecutor(1).submit(time.sleep, 30)
    raise KeyboardInterrupt

load.load_topology = interrupted
sys.argv = ["testbed", "show", "plain-mip"]
code = cli.main()
print("ends", flush=True)
sys.exit(code)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline() == b"ends\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[1] == b""
    assert process.returncode == -signal.SIGINT


PROGRAM = "import sys; from testbed.cli import main; sys.exit(main())"
PRINTING = [["list"], ["show", "plain-mip"], ["vocabulary"], ["list", "-o", "json"], ["-h"]]
"""A table, something longer, text, JSON, and what Typer itself prints."""


@pytest.mark.parametrize("arguments", PRINTING)
def test_a_reader_that_goes_away_is_no_error(arguments: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "unbuffered"), [*((one, "") for one in PRINTING), (["show", "plain-mip"], "1")]
)
def test_a_full_disk_is_no_mistake_of_ours(arguments: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    assert done.stderr == "error: cannot write the output: No space left on device\n"
    assert done.returncode == 3


def test_a_file_on_a_full_disk(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "graph", "plain-mip", "-w", "/dev/full")
    assert (code, err) == (3, "error: cannot write /dev/full: No space left on device\n")


@pytest.mark.parametrize(
    ("name", "options", "begins"),
    [
        ("a.svg", (), b"<svg"),
        ("a.png", (), b"\x89PNG"),
        ("a.PDF", (), b"%PDF"),
        ("a.mmd", (), b"---\ntitle"),
        ("a.gv", (), b"graph"),
        ("drawing", (), b"<svg"),
        ("a.png", ("--format", "svg"), b"<svg"),
    ],
)
def test_a_drawing_is_what_its_files_name_ends_in(capsys, tmp_path, name, options, begins):
    code, _, err = run(capsys, "graph", "plain-mip", "-w", str(tmp_path / name), *options)
    assert code == 0, err
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from testbed.cli import main; main(['--help']); "
        "heavy = {'pydantic', 'yaml', 'jinja2', 'docker', 'vici', 'pyroute2'}; "
        "print(*heavy & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""


def test_help_is_broken_where_the_terminal_ends_and_nowhere_else() -> None:
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert all("\n" not in paragraph for paragraph in command.help.split("\n\n")), name
        for parameter in command.params:  # the brackets are the parser's
            assert not (parameter.metavar or "").startswith("["), (name, parameter.metavar)


def test_report_stands_beside_what_it_reports_on() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert commands["report"].rich_help_panel == commands["verify"].rich_help_panel


def test_streams_that_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["list"]) == 0
    assert main(["show", "nothing"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("show", "scenario-2.5"),
        ("vocabulary",),
        ("graph", "plain-mip", "--format", "dot"),
        ("-h",),
    ],
)
def test_an_encoding_without_the_characters(arguments: tuple[str, ...]) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "testbed", *arguments], env=environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode("ascii")
    if arguments == ("list",):
        assert "RFC 4093 sec. 2.1, sec. 4, Figures 1, 6, 8, 9" in text


def test_json_is_whole_in_every_encoding() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "testbed", "list", "-o", "json"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert (
        "§2.1"
        in {one["name"]: one["source"] for one in json.loads(done.stdout)["topologies"]}["scenario-2.1"]
    )


@pytest.mark.parametrize("caught", [False, True])
def test_interrupted_while_it_is_imported(caught: bool) -> None:
    """Also where a library catches what interrupts it."""
    script = f"""
import os, signal, sys
class Finder:
    def find_spec(self, name, *rest):
        if name == "typer":
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                if {caught}:
                    raise ImportError("no typer")
                raise
sys.meta_path.insert(0, Finder())
from testbed.__main__ import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("command", [("show",), ("graph",), ("verify",), ("measure", "handoff")])
def test_a_wrong_set_is_a_wrong_command_line(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *command, "scenario-2.1", "--set", "option.stak=mip-only")
    assert code == 2 and "--set option.stak=mip-only: the topology has no option stak" in err


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
@pytest.mark.parametrize("name", ["scenario-2.1", "scenario-2.5"])
def test_words_and_addresses_stay_whole(
    name: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    console.cache_clear()  # it has the width that the terminal had
    try:
        code, out, _ = run(capsys, "show", name)
    finally:
        console.cache_clear()
    assert code == 0 and columns - 10 < max(map(len, out.splitlines())) < columns + 10
    words = set(re.split(r"[\s,()]+", out))
    topology = load_topology(name).topology
    assert {*topology.networks, *topology.nodes, *topology.claims} <= words
    assert {role for node in topology.nodes.values() for role in node.roles} <= words
    assert {str(address) for node in topology.nodes.values() for address in node.links.values()} <= words
    assert {str(network.subnet) for network in topology.networks.values()} <= words
    assert {network.domain for network in topology.networks.values()} <= words
