"""What all files of the evidence share: the version of their schema, and how they are read and written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from testbed.errors import Source, UsageError, writing

SCHEMA_VERSION: Final = 2
"""What is written. Version 1 had neither run.json nor captures.json nor observations.jsonl."""
OLDEST: Final = 1
"""The oldest version that can be read."""


class Record(BaseModel):
    """A part of the evidence. Unknown keys are ignored: a newer writer may have added them."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )


class Versioned(Record):
    """A whole file that says by which schema it was written."""

    schema_version: int = Field(default=SCHEMA_VERSION, ge=OLDEST, le=SCHEMA_VERSION)
    """The version of the evidence's schema."""

    @property
    def document(self) -> dict[str, Any]:
        """The file as plain data, which is also what `-o json` prints."""
        return self.model_dump(mode="json", by_alias=True)


M = TypeVar("M", bound=BaseModel)


def write_record(path: Path, record: BaseModel) -> None:
    """Write a JSON file. Raises `TestbedError` where it cannot be written."""
    write_text(path, record.model_dump_json(by_alias=True, indent=2) + "\n")


def write_lines(path: Path, records: Iterable[BaseModel]) -> None:
    """Write a file of JSON lines. Raises `TestbedError` where it cannot be written."""
    lines = (one.model_dump_json(by_alias=True, exclude_unset=True) + "\n" for one in records)
    write_text(path, "".join(lines))


def write_text(path: Path, text: str) -> None:
    """Write a file of the evidence, and the folders it is in. Raises `TestbedError`."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def read_record(model: type[M], path: Path) -> M | None:
    """Read a JSON file; None if there is none.

    Raises `UsageError` with the place of the first fault, for a version that this testbed cannot read, and
    where this user may not read it.
    """
    if (octets := _read(path)) is None:
        return None
    try:
        data = json.loads(octets.decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not JSON: {error}", source=Source(str(path))) from error
    if issubclass(model, Versioned):
        _check_version(data, path)
    return _validated(model, data, Source(str(path)))


def read_lines(model: type[M], path: Path) -> Iterator[M]:
    """Read a file of JSON lines; a missing file has none.

    A last line that was cut short is left out. Raises `UsageError` with the number of a line that is wrong,
    and where this user may not read it.
    """
    if (octets := _read(path)) is None:
        return
    lines = octets.decode(errors="replace").split("\n")[:-1]
    for number, line in enumerate(lines, 1):
        source = Source(str(path), number)
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"not JSON: {error}", source=source) from error
        yield _validated(model, data, source)


def _read(path: Path) -> bytes | None:
    """What is in a file; None if there is none."""
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError as error:  # such as evidence that another user wrote for himself
        raise UsageError(f"cannot be read: {error.strerror}", source=Source(str(path))) from error


def _validated(model: type[M], data: Any, source: Source) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise UsageError(f"{where}: {first['msg']}", source=source) from error


def _check_version(data: Any, path: Path) -> None:
    if not isinstance(data, dict):
        return  # which the model refuses
    version = data.get("schema_version")
    if type(version) is not int:  # nor a bool
        raise UsageError(
            "evidence that does not say its schema version",
            hint="the file is no evidence, or was edited: copy it again from where it was written",
            source=Source(str(path)),
        )
    if not OLDEST <= version <= SCHEMA_VERSION:
        wanted = "a newer testbed" if version > SCHEMA_VERSION else "the testbed that wrote it"
        raise UsageError(
            f"evidence of schema version {version}; this testbed reads {OLDEST} and {SCHEMA_VERSION}",
            hint=f"install {wanted}; versions.json names the version that wrote it",
            source=Source(str(path)),
        )
