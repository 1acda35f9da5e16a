"""An evidence folder as one file: `.zip` or `.tar.zst`. Whoever made it is not trusted."""

from __future__ import annotations

import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Final

from testbed.errors import DISK_FULL, ErrorGroup, TestbedError, UsageError, cannot_write
from testbed.evidence.folder import MARK, is_evidence, is_inside

MOST_BYTES: Final = 4 * 2**30
"""An archive that holds more than this is refused: a hundred times the evidence of a matrix."""
MOST_FILES: Final = 100_000
SUFFIXES: Final = (".zip", ".tar.zst")
_OTHERS: Final = (".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".tzst", ".7z", ".rar")
_CHUNK: Final = 1024
"""Bytes given to the decompressor at once: they become 32 MiB at most, so that no bomb fills the memory."""


_FAULTS: Final = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError),
    RuntimeError,  # an archive that needs a password, or a method that is not known
)
"""What the standard library raises for an archive that is not as it should be."""


class DamagedArchive(UsageError):
    """An archive that cannot be read to its end, or holds what no evidence does."""


def is_archive(path: Path) -> bool:
    """Whether a path is meant as one file; a folder that exists is none, whatever its name.

    Raises `UsageError` for an archive of another kind.
    """
    if path.is_dir():
        return False
    if path.name.endswith(SUFFIXES):
        return True
    if path.name.lower().endswith(_OTHERS):
        raise UsageError(
            f"{path}: evidence is a folder, or one file whose name ends in .zip or .tar.zst",
            hint="unpack it and name the folder" if path.exists() else "for example evidence.zip",
        )
    return False


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder to read evidence from: the folder itself, or an archive unpacked for as long.

    Raises `UsageError` for what is not there, and `DamagedArchive`.
    """
    if not is_archive(path):
        yield path
        return
    if not path.is_file():
        raise UsageError(f"there is no file {path}", hint=f"testbed verify NAME --evidence {path} writes it")
    with TemporaryDirectory(prefix="testbed-evidence-") as folder:
        unpack(path, Path(folder))
        try:
            yield _inside(Path(folder))
        except TestbedError as error:  # it names a folder that is gone when somebody reads this
            for one in (error, *(error.errors if isinstance(error, ErrorGroup) else ())):
                one.message = one.message.replace(folder, str(path))
                if one.source:
                    one.source = replace(one.source, file=one.source.file.replace(folder, str(path)))
            raise


@contextmanager
def packed(path: Path) -> Iterator[Path]:
    """The folder to write evidence to: the folder itself, or one beside the archive, packed at the end.

    What the archive holds already is in the folder. It is packed too where an error or an interruption ends
    the writing, unless nothing has been written. Raises `UsageError` where it cannot be written or is a file
    of another kind.
    """
    if not is_archive(path):
        yield path
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    with beside as name:
        folder = Path(name) / "evidence"
        folder.mkdir()
        if path.exists():
            unpack(path, folder)
            if not is_evidence(folder):
                raise UsageError(f"{path} exists and holds no evidence", hint="choose another file")
        try:
            yield folder
        finally:
            if any(one.name != MARK for one in folder.iterdir()):
                _pack_or_leave(folder, path, Path(name) / "packed")


def _pack_or_leave(folder: Path, path: Path, part: Path) -> None:
    """Make an archive of a folder; where that fails, as on a full disk, leave the folder beside it."""
    try:
        pack(folder, path, part)
    except TestbedError as error:
        left = path.with_name(f"{path.name}.unpacked{part.parent.name.removeprefix(f'.{path.name}')}")
        folder.rename(left)
        error.hint = f"the evidence is left as a folder: {left}"
        raise


def pack(folder: Path, path: Path, part: Path) -> None:
    """Make an archive of a folder; it is written as `part` and takes its name when it is whole.

    Nobody else may read it where it holds files that nobody else may. Raises `TestbedError`.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    private = any(file.stat().st_mode & 0o077 == 0 for file in files)
    try:
        part.touch(0o600 if private else 0o666)
        (_pack_zip if path.name.endswith(".zip") else _pack_tar)(folder, files, part)
        part.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error


def _pack_zip(folder: Path, files: list[Path], part: Path) -> None:
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for file in files:
            archive.write(file, str(file.relative_to(folder)))


def _pack_tar(folder: Path, files: list[Path], part: Path) -> None:
    from zstandard import ZstdCompressor

    with (
        part.open("wb") as out,
        ZstdCompressor(write_checksum=True).stream_writer(out) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in files:
            archive.add(file, str(file.relative_to(folder)), recursive=False, filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def unpack(path: Path, folder: Path) -> None:
    """Unpack an archive into an empty folder. Raises `DamagedArchive`, and `TestbedError` for a full disk."""
    try:
        (_unpack_zip if path.name.endswith(".zip") else _unpack_tar)(path, folder)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise cannot_write(f"what {path} holds", error) from error
        raise DamagedArchive(f"{path} cannot be unpacked: {error}") from error
    except _FAULTS as error:
        raise _damaged(path, error) from error


def _unpack_zip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        room = _Room(path, folder)
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            mode = entry.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise DamagedArchive(f"{path}: {entry.filename} is neither a file nor a folder")
            with archive.open(entry) as content:
                room.put(entry.filename, content.read, mode)


def _unpack_tar(path: Path, folder: Path) -> None:
    with TemporaryFile() as plain:
        _expand(path, plain)
        plain.seek(0)
        with tarfile.open(fileobj=plain, mode="r:") as archive:
            room = _Room(path, folder)
            for entry in archive:
                if entry.isdir():
                    continue
                content = archive.extractfile(entry) if entry.isreg() else None
                if content is None:
                    raise DamagedArchive(f"{path}: {entry.name} is neither a file nor a folder")
                room.put(entry.name, content.read, entry.mode)


def _expand(path: Path, out: IO[bytes]) -> None:
    from zstandard import ZstdDecompressor, ZstdError

    stream = ZstdDecompressor(max_window_size=2**27).decompressobj()
    try:
        with path.open("rb") as squeezed:
            while not stream.eof and (chunk := squeezed.read(_CHUNK)):
                out.write(stream.decompress(chunk))
                if out.tell() > MOST_BYTES:
                    raise _too_much(path)
    except ZstdError as error:
        raise _damaged(path, error) from error
    if not stream.eof:
        raise _damaged(path, "its end is missing")


class _Room:
    """Where an archive is unpacked: inside the folder, and no more than fits a measure."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path, self._folder = path, folder
        self._bytes = self._files = 0

    def put(self, name: str, read: Callable[[int], bytes], mode: int) -> None:
        """Write one file as far as it has the right to be there."""
        if not is_inside(name):
            raise DamagedArchive(f"{self._path}: {name!r} leads out of the evidence folder")
        self._files += 1
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            while data := read(2**20):
                self._bytes += len(data)
                if self._bytes > MOST_BYTES or self._files > MOST_FILES:
                    raise _too_much(self._path)
                out.write(data)
        target.chmod(0o600 | (mode & 0o044))


def _damaged(path: Path, how: object) -> DamagedArchive:
    hint = "copy it again from where it was written"
    return DamagedArchive(f"{path} is damaged or was cut short: {how}", hint=hint)


def _too_much(path: Path) -> DamagedArchive:
    return DamagedArchive(
        f"{path} holds more than {MOST_BYTES // 2**30} GiB or {MOST_FILES} files: this is no evidence"
    )


def _inside(folder: Path) -> Path:
    """The folder itself, or the one folder in it where somebody packed that."""
    inner = list(folder.iterdir())
    return inner[0] if len(inner) == 1 and inner[0].is_dir() and not is_evidence(folder) else folder
