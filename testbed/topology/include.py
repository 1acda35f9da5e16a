"""`include`: a topology file and what it includes as one document.

A path is relative to the file that includes it; what is not there is looked for among the built-in
topologies, so that a user's file may include those. Mappings merge key by key: later files of the list
override earlier ones, and the including file overrides all of them.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from difflib import SequenceMatcher, get_close_matches
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Final

from testbed.data import data_dir
from testbed.document.marks import Marks
from testbed.document.read import Document, expected, load_document
from testbed.document.tree import copied, merge
from testbed.document.values import Expected
from testbed.errors import Source, TestbedError, TopologyError, raise_errors

MAX_BYTES: Final = 1 << 20
"""What the files of one topology may hold together; the largest that comes with the product has 30 kB."""

_ALIKE: Final = 0.75
"""The similarity (0 to 1) of names from which on a file may have been meant."""

MAX_DEPTH: Final = 16
"""How deep files may include each other."""


def read_document(
    file: Path, shown: str, known: Collection[str] = (), *, stored: bool = False
) -> tuple[dict[str, Any], Marks]:
    """Read a topology file with everything it includes; `shown` is what errors call it.

    `known` are the keys of which each file has one at least, as for `load_document`. Each value's mark
    is in the file it was written in. A `stored` file is one that evidence has, written out and of anybody's
    making: it includes nothing. Raises `TopologyError`, or an `ErrorGroup`.
    """
    document = _Files(known, stored).read(file, shown, ())
    return copied(document.data), Marks(shown, dict(document.marks.at))


def files_of(file: Path) -> list[Path]:
    """A topology file and all that it includes, each once. Raises as `read_document`."""
    files = _Files((), stored=False)
    files.read(file, str(file), ())
    return files.files


class _Files:
    """The files read so far, each once."""

    def __init__(self, known: Collection[str], stored: bool) -> None:
        self._known = known
        self._stored = stored
        self._read: dict[Path, Document] = {}
        self._bytes = 0

    def read(self, file: Path, shown: str, above: tuple[Path, ...]) -> Document:
        """One file with what it includes; `above` are the files that are including it."""
        real = file.resolve()
        if real not in self._read:
            self._read[real] = self._with_included(file, shown, (*above, real))
        return self._read[real]

    @property
    def files(self) -> list[Path]:
        """Those that were read."""
        return list(self._read)

    def _with_included(self, file: Path, shown: str, above: tuple[Path, ...]) -> Document:
        self._count(file, shown)
        own = load_document(file, shown, self._known)
        if self._stored and "include" in own.data:
            raise TopologyError(
                "include: the topologies of evidence are written out, and include nothing",
                hint="the evidence was edited: copy it again from where it was written",
                source=own.marks.value(("include",)),
            )
        entries = own.data.get("include", [])
        if not isinstance(entries, list):
            hint = f"write [{entries}]" if isinstance(entries, str) else None
            raise expected(("include",), own.marks, Expected("a list of files", hint), entries)
        included: list[Document] = []
        errors: list[TestbedError] = []
        for index, entry in enumerate(entries):
            try:
                included.append(self.read(*self._find(file, shown, entry, index, own.marks, above), above))
            except TestbedError as error:
                errors.append(error)
        raise_errors(errors)
        return _merged(own, tuple(included))

    def _count(self, file: Path, shown: str) -> None:
        with suppress(OSError):  # reading it says why
            self._bytes += file.stat().st_size
        if self._bytes > MAX_BYTES:
            message = f"expected at most {MAX_BYTES >> 20} MiB in a topology's files, got more with this one"
            hint = "repeat and filters save writing; split a large topology into several"
            raise TopologyError(message, hint=hint, source=Source(shown, 1, 1))

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
            near = _nearest(entry, _fragments(file.parent))
            hint = f"did you mean {near}?" if near else "paths are relative to the file that includes them"
            raise TopologyError(f"include[{index}]: no file {entry}", hint=hint, source=marks.value(where))
        if len(above) > MAX_DEPTH:
            message = f"include[{index}]: expected files to include each other at most {MAX_DEPTH} deep"
            raise TopologyError(message, hint="include them side by side", source=marks.value(where))
        if (real := found.resolve()) in above:
            by = f" through {Path(shown).name}" if real != above[-1] else ""
            raise TopologyError(
                f"include[{index}]: {entry} includes itself{by}",
                hint="leave it out",
                source=marks.value(where),
            )
        return found, name


@lru_cache(128)  # a verification reads the same topologies again and again, with other `--set`
def _merged(own: Document, included: tuple[Document, ...]) -> Document:
    """A file's own text over what it includes."""
    data: dict[str, Any] = {}
    marks = Marks(own.marks.file)
    for one in included:
        merge(data, marks, one.data, one.marks, grow=False)
    rest = {key: value for key, value in own.data.items() if key != "include"}
    merge(data, marks, rest, own.marks, grow=False)
    marks.at[()] = own.marks.at[()]
    return Document(data, marks)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than any file's
        return False


def _nearest(entry: str, files: list[str]) -> str | None:
    """The file whose name is most like an entry's, folder and suffix apart; None where none is much alike."""
    stems: dict[str, list[str]] = {}
    for file in files:
        stems.setdefault(PurePosixPath(file).stem.lower(), []).append(file)
    stem = PurePosixPath(entry).stem.lower()
    alike = [file for one in get_close_matches(stem, stems, n=1, cutoff=_ALIKE) for file in stems[one]]
    return max(alike, key=lambda file: SequenceMatcher(None, entry, file).ratio(), default=None)


def _fragments(beside: Path) -> list[str]:
    """What could have been meant: YAML files beside the including one and built-in ones, one folder deep."""
    folders = (beside, data_dir("topologies"))
    return [
        file.relative_to(folder).as_posix()
        for folder in folders
        for pattern in ("*.yaml", "*/*.yaml")
        for file in sorted(folder.glob(pattern))
    ]
