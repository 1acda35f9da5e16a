"""Which lessons come with the product, and what a list of them says, without a look into their tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from testbed.data import data_dir

FILE: Final = "lesson.yaml"
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Head:
    """What a lesson says of itself before its tasks."""

    number: int
    title: str
    goal: str
    minutes: int
    section: str
    topology: str
    tasks: int
    """How many tasks it has."""


def builtin_lessons() -> dict[str, Path]:
    """The folders of the lessons that come with the product, by name, in the order of the document."""
    folders = [file.parent for file in data_dir("lessons").glob(f"*/{FILE}")]
    return {folder.name: folder for folder in sorted(folders, key=lambda one: (number_of(one), one.name))}


def number_of(folder: Path) -> int:
    """The number of a lesson, without more of it than that; 0 where it has none."""
    for line in (folder / FILE).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key == "number" and value.split("#")[0].strip().isdigit():
            return int(value.split("#")[0])
    return 0


def read_heads() -> dict[str, Head]:
    """The heads of the lessons that come with the product, in their order.

    Nothing is checked: the product's own lessons are valid, and to see that takes ten times as long.
    """
    heads = {}
    for name, folder in builtin_lessons().items():
        document = yaml.load((folder / FILE).read_text(encoding="utf-8"), _LOADER)
        keys = [key for key in Head.__slots__ if key != "tasks"]
        heads[name] = Head(**{key: document[key] for key in keys}, tasks=len(document["tasks"]))
    return heads
