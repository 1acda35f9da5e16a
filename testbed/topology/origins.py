"""Where the parts of a topology were written, as comments beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from testbed.data import data_dir
from testbed.document.marks import Marks, Path
from testbed.document.remarks import remark
from testbed.errors import Source


@dataclass
class Origins:
    """What the comment beside a part says: its author's remark there, and where it comes from."""

    marks: Marks
    sections: Collection[str]
    """The keys of the document whose parts have names; each of them is of some place, not the whole."""
    instead: Mapping[Path, Source] = field(default_factory=dict)
    """Parts that a command line wrote."""

    def remark(self, path: Path) -> str:
        """The comment for a part; none where what encloses it says it already."""
        here, around = self._source(path), self._source(path[:-1])
        elsewhere = here.file != around.file
        own = remark(here).rstrip(",:;") if elsewhere or here.line != around.line else ""
        if len(path) == 1:
            named = path[0] not in self.sections
        else:
            named = elsewhere or (len(path) == 2 and path[0] in self.sections)
        return "; ".join(filter(None, (own, shown(here) if named else "")))

    def _source(self, path: Path) -> Source:
        return self.instead.get(path) or self.marks.key(path)


def shown(source: Source) -> str:
    """A place as readers know it: `topologies/shared/home.yaml:3` for a file that comes with the product."""
    file, folder = FilePath(source.file), data_dir("topologies")
    if file.is_relative_to(folder):
        file = FilePath("topologies") / file.relative_to(folder)
    return ":".join(map(str, filter(None, (file, source.line))))
