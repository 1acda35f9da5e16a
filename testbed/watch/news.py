"""What has changed in a picture, for everybody who looks at it: a terminal, any number of browsers.

Each has a mailbox, which holds what has changed since it was emptied: a slow reader misses moments, and never
how they ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from testbed.topology.loaded import LoadedTopology
from testbed.watch.picture import Picture
from testbed.watch.rows import LiveRow, Rows


@dataclass(slots=True)
class Mailbox:
    """What has changed for one reader."""

    picture: bool = True
    rows: dict[int, LiveRow] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether there is nothing new."""
        return not (self.picture or self.rows or self.problems)


class News:
    """The picture and the rows of one lab, and the mailboxes of those who look; threads may share it."""

    def __init__(self, topology: LoadedTopology, picture: Picture, rows: Rows) -> None:
        self.topology = topology
        self.picture = picture
        self.rows = rows
        self.ended = False
        self._changed = threading.Condition()
        self._mailboxes: list[Mailbox] = []

    @contextmanager
    def reading(self) -> Iterator[Mailbox]:
        """A mailbox for one reader, which holds all that is there; `wait` empties it."""
        with self._changed:
            box = Mailbox(rows=dict(self.rows.rows))
            self._mailboxes.append(box)
        try:
            yield box
        finally:
            with self._changed:
                self._mailboxes.remove(box)

    def wait(self, box: Mailbox, seconds: float) -> Mailbox:
        """Take what is new out of a mailbox; nothing, after so many seconds without news or at the end."""
        with self._changed:
            if box.empty and not self.ended:
                self._changed.wait(seconds)
            news = Mailbox(box.picture, box.rows, box.problems)
            box.picture, box.rows, box.problems = False, {}, []
            return news

    def tell(self, row: LiveRow | None = None, problem: str = "") -> None:
        """Say that a row began or grew, that something went wrong, or (neither) that the picture changed."""
        with self._changed:
            for box in self._mailboxes:
                if row is not None:
                    box.rows[row.number] = row
                elif problem:
                    box.problems.append(problem)
                else:
                    box.picture = True
            self._changed.notify_all()

    def pause(self, seconds: float) -> bool:
        """Wait so long; return at once, and false, where it has ended."""
        end = time.monotonic() + seconds
        with self._changed:
            while not self.ended and (remaining := end - time.monotonic()) > 0:
                self._changed.wait(remaining)
            return not self.ended

    def end(self) -> None:
        """Wake up everybody: there is no more to come."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()
