"""What an agent keeps beyond the end of its process: a file with one JSON line for each change.

A line is `[NODE, RECORD]`, NODE a home address or an NAI; the last of a node counts, and a record of null
forgets it. Lines are appended; when most of them are out of date, the file is written anew beside itself and
renamed. Nothing is synchronized to the disk: what was written outlives a killed process, and after a crash of
the whole machine the timestamps of its requests are too old to be accepted again (RFC 5944 §5.7.1).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from testbed.mobileip.core.api import Effect, Record, Refused, Remember
from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.io.json_line import encoder

SLACK = 1000
"""Lines out of date that a file may have beside one for each that is not."""
_encode = encoder(",", ":")


class Store:
    """The records of one agent in the file `path`, which nobody else may read."""

    def __init__(self, path: Path) -> None:
        """Read what a predecessor has left; raises NodeError."""
        self._path = path
        self._lines: dict[IPv4Address | str, bytes] = {}
        self._appended = 0
        self._descriptor: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.records = _read(path)
            self._lines = {node: _line(node, record) for node, record in self.records.items()}
            self._rewrite()
        except OSError as error:
            raise NodeError(f"state {path}: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise self.unusable(error) from error

    def write(self, changes: Iterable[Remember]) -> None:
        """Keep `changes`; raises NodeError, and then tries to write everything with the next ones."""
        lines = []
        for change in changes:
            line = _line(change.node, change.record)
            lines.append(line)
            if change.record is None:
                self._lines.pop(change.node, None)
            else:
                self._lines[change.node] = line
        if not lines:
            return
        try:
            self._appended += len(lines)
            if self._descriptor is None or self._appended > len(self._lines) + SLACK:
                self._rewrite()
            else:
                _write(self._descriptor, b"".join(lines))
        except OSError as error:
            self.close()  # a line may be incomplete: nothing must follow it
            raise NodeError(f"state {self._path}: {error.strerror}") from error

    def keep(self, effects: list[Effect], refused: Refused) -> tuple[list[Effect], NodeError | None]:
        """Keep what `effects` ask to remember; return what is to be done, and why it could not be kept.

        What cannot be kept is not granted either: `refused` says what to do instead.
        """
        try:
            self.write([each for each in effects if isinstance(each, Remember)])
        except NodeError as error:
            why = f"it could not be kept: {error}"
            unkept = {at: why for at, each in enumerate(effects) if isinstance(each, Remember)}
            instead = [each for part in refused(effects, unkept) for each in part]
            with suppress(NodeError):  # there may be room for so much; else it is written with the next
                self.write(each for each in instead if isinstance(each, Remember))
            return instead, error
        return effects, None

    def _rewrite(self) -> None:
        self.close()
        beside = self._path.with_name(self._path.name + ".new")
        beside.unlink(missing_ok=True)  # a killed predecessor's
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write(descriptor, b"".join(self._lines.values()))
            beside.rename(self._path)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor, self._appended = descriptor, 0

    def unusable(self, error: Exception) -> NodeError:
        """The error about a file that no agent has written."""
        return NodeError(
            f"state {self._path}: {error!r}; remove the file to begin without bindings and visitors"
        )

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _read(path: Path) -> dict[IPv4Address | str, Record]:
    records: dict[IPv4Address | str, Record] = {}
    try:
        *lines, _ = path.read_bytes().split(b"\n")  # what follows the last newline was not written to its end
    except FileNotFoundError:
        return records
    for line in lines:
        name, record = json.loads(line)
        node = name if "@" in name else IPv4Address(name)  # no NAI of ours is without a realm
        records.pop(node, None)
        if record is not None:
            records[node] = record
    return records


def _line(node: IPv4Address | str, record: Record | None) -> bytes:
    return _encode((str(node), record)).encode() + b"\n"


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
