"""The matrix under an ordinary kernel: what is repeated, and what is stated; the kernel itself is played."""

import json
import zipfile
from types import SimpleNamespace

import inside
import matrix
import pytest

TOPOLOGY = "scenario-2.3"


def written(file, verdicts, observed="seen"):
    """Evidence with these verdicts, of which `observed` is the one finding."""
    claims = [
        {"id": name, "verdict": verdict, "reason": None if verdict == "reproduced" else f"{name} {verdict}"}
        | {"evidence": [finding(verdict, observed)]}
        for name, verdict in verdicts.items()
    ]
    document = {"schema_version": 2, "scenario": TOPOLOGY, "claims": claims}
    document["backends"] = {"a": {"ha/home-agent": "kernel", "mn/esp": "kernel (xfrm)"}}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("verdicts.json", json.dumps(document))


def finding(verdict, observed):
    held = {"reproduced": True, "refuted": False, "inconclusive": None}[verdict]
    return {"run": "main", "expectation": "it is so", "held": held, "observed": observed}


@pytest.fixture
def runs(monkeypatch):
    """What is run inside; `runs.verdicts` is what the next verification comes to, None: no evidence."""
    played = SimpleNamespace(commands=[], verdicts=[])

    def run(command, out, within, planes):
        played.commands.append((planes, command))
        out.mkdir(parents=True, exist_ok=True)
        (out / "log").write_text("")
        if (verdicts := played.verdicts.pop(0)) is not None:
            written(out / command[-1].rpartition("/")[2], verdicts)
        return SimpleNamespace(code=0, output="", console="the kernel stopped")

    monkeypatch.setattr(inside, "run", run)
    return played


def test_only_what_is_undecided_is_repeated(runs, tmp_path):
    runs.verdicts = [None, {"a": "reproduced", "b": "inconclusive", "c": "refuted"}, {"b": "reproduced"}]
    for _ in range(5):
        matrix.verify(TOPOLOGY, "kernel", tmp_path, 1)
    again = ["--claim", "b", "--evidence", "/run/out/2.zip"]
    assert [command[3:] for _, command in runs.commands] == [
        ["--jobs", "1", "--evidence", "/run/out/1.zip"],
        ["--jobs", "1", "--evidence", "/run/out/1.zip"],
        ["--jobs", "1", *again],
    ]
    assert matrix.undecided(tmp_path) == []


def stated(tmp_path, capsys, kernel, userspace, observed="seen"):
    for planes, verdicts in (("kernel", kernel), ("userspace", userspace)):
        folder = tmp_path / TOPOLOGY / planes
        folder.mkdir(parents=True)
        written(folder / "1.zip", verdicts, observed)
    good = matrix.state([tmp_path / TOPOLOGY])
    return good, capsys.readouterr().out


def test_tables_that_agree(tmp_path, capsys):
    good, out = stated(tmp_path, capsys, {"a": "reproduced"}, {"a": "reproduced"})
    assert good and "| scenario-2.3 | a | reproduced | reproduced | 0 of 1 |" in out
    assert "scenario-2.3, kernel: kernel 1, kernel (xfrm) 1" in out


def test_a_difference_is_stated(tmp_path, capsys):
    good, out = stated(tmp_path, capsys, {"a": "reproduced"}, {"a": "refuted"})
    assert not good and "| scenario-2.3 | a | reproduced | refuted | 1 of 1 |" in out
    assert "a, userspace: refuted: a refuted" in out
    assert "a, main, it is so: kernel: held: seen; userspace: did not hold: seen" in out


def test_what_only_one_has_is_not_good(tmp_path, capsys):
    good, out = stated(tmp_path, capsys, {"a": "reproduced", "b": "reproduced"}, {"a": "reproduced"})
    assert not good and "| scenario-2.3 | b | reproduced | – |" in out


def test_planes_in_userspace_are_a_kernel_that_lacks_its_own():
    assert inside.PLANES["kernel"] == []
    (argument,) = inside.PLANES["userspace"]
    assert {"ipip_init", "esp4_init", "vti_init"} <= set(argument.partition("=")[2].split(","))
