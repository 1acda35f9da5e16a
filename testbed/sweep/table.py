"""One table of a study: a row for each claim that was decided and each move that was measured."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

from testbed.errors import writing
from testbed.evidence.record import Record
from testbed.evidence.study import CSV, PARQUET, Row, StudyTask, TaskRecord

_OF_THE_TASK: Final = ("testbed", "worker", "host", "engine", "kernel", "cpu", "load", "image", "image_id")
Cell = str | float | int | None


def columns(records: Sequence[TaskRecord]) -> dict[str, type]:
    """Column → str, int or float. What the study varies has columns of its own, as it was written."""
    task = {name: _type(StudyTask, name) for name in StudyTask.model_fields if name != "options"}
    options = {name: str for one in records for name in one.task.options}
    row = {name: _type(Row, name) for name in Row.model_fields if name != "claim"}
    rest: dict[str, type] = {"seconds": float, "finished": str}
    return task | options | row | rest | {name: _type(TaskRecord, name) for name in _OF_THE_TASK}


def rows(records: Sequence[TaskRecord]) -> Iterator[dict[str, Cell]]:
    """The rows of finished tasks, in the order of the tasks."""
    for one in records:
        task = {name: getattr(one.task, name) for name in StudyTask.model_fields if name != "options"}
        about = {name: getattr(one, name) for name in ("seconds", "finished", *_OF_THE_TASK)}
        for row in one.rows:
            found = {name: getattr(row, name) for name in Row.model_fields if name != "claim"}
            yield task | one.task.options | found | about


def write_table(root: Path, records: Sequence[TaskRecord]) -> list[Path]:
    """Write results.csv and results.parquet; return them. Raises `TestbedError`."""
    import pyarrow as arrow
    from pyarrow import parquet

    names, found = columns(records), list(rows(records))
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in names.items()])
    files = [root / CSV, root / PARQUET]
    with writing(files[0]), files[0].open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, list(names), lineterminator="\n")
        table.writeheader()
        table.writerows(found)
    with writing(files[1]):
        parquet.write_table(arrow.Table.from_pylist(found, schema=schema), files[1])
    return files


def _type(model: type[Record], name: str) -> type:
    """The type of a field's values, where there is a value."""
    kind: Any = model.model_fields[name].annotation
    kind = (
        next((one for one in get_args(kind) if one is not NoneType), kind)
        if NoneType in get_args(kind)
        else kind
    )
    return str if get_origin(kind) is Literal else kind
