"""Where each part of a document was written: path → file:line:column, of keys and of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from testbed.errors import Source

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """Where one value was written, where its key was, and the scalar's own text."""

    value: Source
    key: Source | None = None
    raw: str | None = None


@dataclass
class Marks:
    """The marks of one document by path; a path that is not in it stands where its nearest parent does."""

    file: str
    at: dict[Path, Mark] = field(default_factory=dict)

    def value(self, path: Sequence[str | int]) -> Source:
        """Where the value at a path begins."""
        return self._nearest(path).value

    def key(self, path: Sequence[str | int]) -> Source:
        """Where the key at a path begins (for a list's item or the root: its value)."""
        mark = self._nearest(path)
        return mark.key or mark.value

    def raw(self, path: Sequence[str | int]) -> str | None:
        """The text of a plain scalar as it was written, or None."""
        mark = self.at.get(tuple(path))
        return mark.raw if mark else None

    def replace(self, path: Path, source: Source) -> None:
        """Say that the value at a path, and all below it, was written at `source` instead."""
        for known in [known for known in self.at if known[: len(path)] == path]:
            del self.at[known]
        self.at[path] = Mark(source, source)

    def _nearest(self, path: Sequence[str | int]) -> Mark:
        parts = tuple(path)
        while parts and parts not in self.at:
            parts = parts[:-1]
        return self.at.get(parts) or Mark(Source(self.file))
