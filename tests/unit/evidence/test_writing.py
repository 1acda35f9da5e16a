"""Writing an evidence folder: into one that was used before, and where the machine refuses."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from testbed.cli import main
from testbed.errors import MachineError, UsageError
from testbed.evidence.folder import EvidenceFolder
from testbed.evidence.handoff import HandOffs
from testbed.evidence.record import read_record
from testbed.evidence.run import RunRecord
from testbed.evidence.verdicts import Verdicts
from testbed.evidence.versions import Versions
from testbed.experiment.claims import crew as crew_module
from testbed.experiment.claims.plan import choose_claims
from testbed.experiment.claims.verify import Verification
from testbed.experiment.evidence import Evidence
from testbed.render import REDACTED, render_lab
from testbed.topology.load import load_topology

OLD = Verdicts(scenario="old", claims=[])
NEW = Verdicts(scenario="new", claims=[])
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this kernel lacks /dev/full")


@pytest.fixture
def used(tmp_path):
    """A folder with the verdicts of an earlier verification."""
    evidence = Evidence(tmp_path / "evidence")
    evidence.write_verdicts(OLD)
    return evidence.root


def test_an_interrupted_verification_leaves_no_verdicts_of_the_one_before(used, monkeypatch, capsys):
    def interrupted(self):
        assert not (used / "verdicts.json").exists()  # from before the first run on
        raise KeyboardInterrupt

    monkeypatch.setattr(crew_module.Crew, "work", interrupted)
    scenario = choose_claims(load_topology("scenario-2.1"), ["2.1-gateway-guards"])
    for _ in range(2):
        verification = Verification(SimpleNamespace(), "image", None, Evidence(used))
        with pytest.raises(KeyboardInterrupt):
            verification.verify(scenario, [])
        assert Verdicts.model_validate_json((used / "verdicts.old.json").read_text()) == OLD
    for command in ("judge", "report"):
        assert main([command, str(used)]) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert "has no verdicts: the last verification into it was interrupted" in error
        assert "verdicts.old.json has the verdicts before that" in error


def test_new_verdicts_take_the_place_of_old_ones(used):
    evidence = Evidence(used)
    evidence.begin_verdicts()
    evidence.write_verdicts(NEW)
    assert EvidenceFolder(used).verdicts == NEW
    assert sorted(one.name for one in used.iterdir()) == [".testbed-evidence", "verdicts.json"]


def test_keys_that_an_earlier_experiment_left_are_not_forgotten(used):
    evidence = Evidence(used, keys=True)
    evidence.write("versions.json", Versions(keys=evidence.has_keys))
    assert Evidence(used).has_keys and not Evidence(used).keys
    (used / "versions.json").write_text("{")
    assert not Evidence(used).has_keys


def full(path):
    """A file that takes nothing: the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/full")


RUN = RunRecord(claim="a", run="main", lab="x", began=0, ended=1)
WRITES = {
    "versions.json": lambda to: to.write("versions.json", Versions()),
    "verdicts.json.part": lambda to: to.write_verdicts(NEW),
    "topology.yaml": lambda to: to.write_topology("name: x"),
    "roles/hub.yaml": lambda to: to.keep_roles(load_topology("scenario-2.1")),
    "claims/a/main/run.json": lambda to: to.write_run(to.root / "claims/a/main", RUN),
    "claims/a/main/steps.jsonl": lambda to: to.write_steps(to.root / "claims/a/main", [RUN]),
}


@FULL
@pytest.mark.parametrize("file", WRITES)
def test_a_full_disk_is_one_clear_message(used, file):
    full(used / file)
    with pytest.raises(MachineError, match=rf"cannot write .*{file}: No space left on device"):
        WRITES[file](Evidence(used))
    assert Evidence(used) and EvidenceFolder(used).verdicts == OLD


def test_so_is_what_may_not_be_written(used, monkeypatch):
    """Root may write everything: the refusals are played."""

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    lab = render_lab(load_topology("plain-mip"), lab="x", secrets=REDACTED)
    evidence = Evidence(used)
    for name in ("touch", "mkdir", "write_text"):
        with monkeypatch.context() as patched:
            patched.setattr(Path, name, refuse)
            with pytest.raises(UsageError, match=r"cannot write .*: Permission denied"):
                evidence.write_rendered(lab)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UsageError, match=r"cannot write .*claims/a/main"):
        evidence.run_folder("a", "run")


@pytest.mark.parametrize("model", [Verdicts, Versions, HandOffs])
def test_a_version_is_asked_for_in_every_file_that_has_one(tmp_path, model):
    file = tmp_path / "file.json"
    file.write_text(json.dumps({"scenario": "x", "claims": [], "runs": []}))
    with pytest.raises(UsageError, match="does not say its schema version") as caught:
        read_record(model, file)
    assert caught.value.source.file == str(file)
