"""`include`: a topology file and what it includes as one document.

A path is relative to the file that includes it; what is not there is looked for among the built-in
topologies, so that a file of one's own may include theirs. Mappings merge key by key; an including file
stands before what it includes, and a later file of its list before an earlier one.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from testbed.data import data_dir
from testbed.errors import TestbedError, TopologyError, raise_errors
from testbed.topology.document import expected, load_document
from testbed.topology.marks import Marks
from testbed.topology.tree import merge
from testbed.topology.values import Expected

_Document = tuple[dict[str, Any], Marks]


def read_document(file: Path, shown: str) -> _Document:
    """Read a topology file with everything it includes; `shown` is what errors call it.

    Each value's mark is in the file it was written in. Raises `TopologyError`, or an `ErrorGroup`.
    """
    return _Files().read(file, shown, ())


class _Files:
    """The files read so far, each once."""

    def __init__(self) -> None:
        self._read: dict[Path, _Document] = {}

    def read(self, file: Path, shown: str, above: tuple[Path, ...]) -> _Document:
        """One file with what it includes; `above` are the files that are including it."""
        real = file.resolve()
        if real not in self._read:
            self._read[real] = self._with_included(file, shown, (*above, real))
        return self._read[real]

    def _with_included(self, file: Path, shown: str, above: tuple[Path, ...]) -> _Document:
        own, own_marks = load_document(file, shown)
        entries = own.pop("include", [])
        if not isinstance(entries, list):
            hint = f"write [{entries}]" if isinstance(entries, str) else None
            raise expected(("include",), own_marks, Expected("a list of files", hint), entries)
        data: dict[str, Any] = {}
        marks = Marks(shown)
        errors: list[TestbedError] = []
        for index, entry in enumerate(entries):
            try:
                included = self.read(*self._find(file, shown, entry, index, own_marks, above), above)
            except TestbedError as error:
                errors.append(error)
            else:
                merge(data, marks, *included, grow=False)
        raise_errors(errors)
        merge(data, marks, own, own_marks, grow=False)
        marks.at[()] = own_marks.at[()]
        return data, marks

    def _find(
        self, file: Path, shown: str, entry: Any, index: int, marks: Marks, above: tuple[Path, ...]
    ) -> tuple[Path, str]:
        """The file that an entry means, and what errors call it."""
        where = ("include", index)
        if not isinstance(entry, str) or not entry:
            raise expected(where, marks, Expected("a file's path"), entry)
        found, name = file.parent / entry, str(Path(shown).parent / entry)
        if not _is_file(found):
            found = data_dir("topologies") / entry
            name = str(found)
        if not _is_file(found):
            near = get_close_matches(entry, _fragments(file.parent), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "paths are relative to the file that includes them"
            raise TopologyError(f"include[{index}]: no file {entry}", hint=hint, source=marks.value(where))
        if found.resolve() in above:
            by = f" through {Path(shown).name}" if found.resolve() != above[-1] else ""
            raise TopologyError(
                f"include[{index}]: {entry} includes itself{by}",
                hint="leave it out",
                source=marks.value(where),
            )
        return found, name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than any file's
        return False


def _fragments(beside: Path) -> list[str]:
    """What could have been meant: YAML files beside the including one and built-in ones, one folder deep."""
    folders = (beside, data_dir("topologies"))
    return [
        file.relative_to(folder).as_posix()
        for folder in folders
        for pattern in ("*.yaml", "*/*.yaml")
        for file in sorted(folder.glob(pattern))
    ]
