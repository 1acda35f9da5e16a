"""The files of an evidence folder against the schemas that are published of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from errno import EACCES
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from sample_evidence import write_sample

from testbed.cli import main
from testbed.errors import TestbedError, UsageError
from testbed.evidence.folder import EvidenceFolder
from testbed.evidence.record import read_lines, read_record
from testbed.evidence.run import EventRecord
from testbed.evidence.schema import FILES, evidence_schema
from testbed.evidence.verdicts import Verdicts
from testbed.report.evidence import read_evidence
from testbed.report.page import render_report


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("files") / "evidence")


def documents(folder: Path, name: str) -> Iterator[Any]:
    """Every document of the folder's files of a name; of JSON lines every line."""
    for file in sorted(folder.rglob(name)):
        texts = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
        yield from map(json.loads, texts)


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_as_its_schema_says(folder: Path, name: str) -> None:
    schema = evidence_schema(name)
    Draft202012Validator.check_schema(schema)
    found = list(documents(folder, name))
    assert found
    for document in found:
        Draft202012Validator(schema).validate(document)
        # What is written by the model is as well.
        written = FILES[name].model_validate(document).model_dump(mode="json", by_alias=True)
        Draft202012Validator(schema).validate(written)


MUTATIONS: dict[str, tuple[str | int, ...]] = {
    "verdicts.json": ("claims", 0, "verdict"),
    "handoff.json": ("runs", 0, "moves", 0, "outage_ms"),
    "versions.json": ("schema_version",),
    "run.json": ("run",),
    "captures.json": ("taps",),
    "events.jsonl": ("node",),
    "steps.jsonl": ("began",),
    "observations.jsonl": ("events",),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_wrong_is_not(folder: Path, name: str) -> None:
    document = next(documents(folder, name))
    *path, last = MUTATIONS[name]
    part = document
    for step in path:
        part = part[step]
    part[last] = ["wrong"]
    assert not Draft202012Validator(evidence_schema(name)).is_valid(document)
    assert any(
        one.path[-1] == last for one in Draft202012Validator(evidence_schema(name)).iter_errors(document)
    )


@pytest.mark.parametrize("name", FILES)
def test_every_field_says_what_it_means(name: str) -> None:
    def fields(schema: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(schema, dict):
            yield from schema.get("properties", {}).items()
            for part in schema.values():
                yield from fields(part)

    for field, about in fields(evidence_schema(name)):
        assert about.get("description"), field


def test_the_command_prints_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--evidence"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == list(FILES)
    for kind in ("run", "run.json"):
        assert main(["schema", "--evidence", kind]) == 0
        assert json.loads(capsys.readouterr().out) == evidence_schema("run.json")
    assert main(["schema", "--evidence", "verdict"]) == 2
    assert "did you mean verdicts?" in capsys.readouterr().err
    assert main(["schema", "rule"]) == 2
    assert "did you mean role?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["verdicts.json", "handoff.json", "versions.json"])
@pytest.mark.parametrize("version", [0, 3])
def test_other_versions_are_refused_in_words(tmp_path: Path, name: str, version: int) -> None:
    folder = write_sample(tmp_path / "evidence")
    document = json.loads((folder / name).read_text()) | {"schema_version": version}
    (folder / name).write_text(json.dumps(document))
    with pytest.raises(TestbedError) as caught:
        render_report(read_evidence(folder))
    assert f"{name}: evidence of schema version {version}; this testbed reads 1 and 2" in str(caught.value)
    assert ("install a newer testbed" in str(caught.value)) == (version == 3)


def test_version_1_is_read(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "evidence")
    for name in ("verdicts.json", "handoff.json", "versions.json"):
        document = json.loads((folder / name).read_text()) | {"schema_version": 1}
        (folder / name).write_text(json.dumps(document))
    for name in ("run.json", "captures.json", "observations.jsonl"):
        for file in folder.rglob(name):
            file.unlink()
    evidence = read_evidence(folder)
    run = evidence.run("2.1-colocated-registers", "main")
    assert run.record is None and run.captured is None and run.observations == []
    assert "2.1-colocated-registers" in render_report(evidence)


def test_what_a_newer_writer_adds_is_ignored(tmp_path: Path) -> None:
    folder = write_sample(tmp_path / "evidence")
    document = json.loads((folder / "verdicts.json").read_text()) | {"mood": "good"}
    (folder / "verdicts.json").write_text(json.dumps(document))
    assert EvidenceFolder(folder).verdicts is not None


@pytest.mark.parametrize("call", ["is_file", "read_bytes"])
def test_what_this_user_may_not_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(EACCES, "Permission denied", str(self))

    for name in ("verdicts.json", "events.jsonl"):
        (tmp_path / name).touch()
    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(UsageError, match=r"verdicts\.json: cannot be read: Permission denied"):
        read_record(Verdicts, tmp_path / "verdicts.json")
    with pytest.raises(UsageError, match=r"events\.jsonl: cannot be read: Permission denied"):
        list(read_lines(EventRecord, tmp_path / "events.jsonl"))
