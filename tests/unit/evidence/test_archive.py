"""Evidence as one file: what goes in comes out, and nothing else does."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from testbed.errors import TestbedError, UsageError
from testbed.evidence import archive
from testbed.evidence.archive import DamagedArchive, opened, packed

SUFFIXES = pytest.mark.parametrize("suffix", [".zip", ".tar.zst"])


def write(folder, **more):
    files = {"verdicts.json": "{}", "claims/a/main/captures/mn-hotel.pcap": "\0\xff" * 99, **more}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def content(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def tar(path, *entries):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as made:
        for entry, data in entries:
            entry.size = len(data)
            made.addfile(entry, io.BytesIO(data))
    path.write_bytes(zstandard.compress(plain.getvalue()))
    return path


@SUFFIXES
def test_what_is_packed_is_read(tmp_path, suffix):
    path = tmp_path / "new" / f"evidence{suffix}"
    with packed(path) as folder:
        write(folder)
        before = content(folder)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with opened(path) as folder:
        assert content(folder) == before
    assert not folder.exists()
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@SUFFIXES
def test_what_others_may_not_read_stays_so(tmp_path, suffix):
    path = tmp_path / f"evidence{suffix}"
    with packed(path) as folder:
        write(folder)
        (folder / "verdicts.json").chmod(0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with opened(path) as folder:
        assert stat.S_IMODE((folder / "verdicts.json").stat().st_mode) == 0o600


@SUFFIXES
def test_evidence_gathers_in_an_archive_as_in_a_folder(tmp_path, suffix):
    path = tmp_path / f"evidence{suffix}"
    with packed(path) as folder:
        write(folder)
    with packed(path) as folder:
        (folder / "handoff.json").write_text("{}")
    with opened(path) as folder:
        assert {"verdicts.json", "handoff.json"} <= content(folder).keys()


@SUFFIXES
def test_an_interruption_keeps_what_was_written(tmp_path, suffix):
    path = tmp_path / f"evidence{suffix}"
    with pytest.raises(KeyboardInterrupt), packed(path) as folder:
        write(folder)
        raise KeyboardInterrupt
    with opened(path) as folder:
        assert "verdicts.json" in content(folder)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_nothing_is_left_of_what_nothing_was_written_to(tmp_path):
    with pytest.raises(KeyboardInterrupt), packed(tmp_path / "evidence.zip") as folder:
        (folder / ".testbed-evidence").touch()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_an_archive_that_cannot_be_written_leaves_its_folder(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "_pack_zip", full)
    file = tmp_path / "evidence.zip"
    with pytest.raises(TestbedError, match="No space left") as caught, packed(file) as folder:
        write(folder)
    (left,) = tmp_path.iterdir()
    assert str(left) in caught.value.hint and left.name.startswith("evidence.zip.unpacked-")
    assert any(left.iterdir())


def test_folders_are_as_they_are(tmp_path):
    (tmp_path / "looks-like.zip").mkdir()
    for path in (tmp_path, tmp_path / "not-yet", tmp_path / "looks-like.zip", tmp_path / "v1.2"):
        with opened(path) as there, packed(path) as here:
            assert there == here == path


@pytest.mark.parametrize("name", ["e.tar", "e.tar.gz", "e.tgz", "e.7z", "e.zst", "E.RAR"])
def test_other_archives_are_refused(tmp_path, name):
    for use in (opened, packed):
        with pytest.raises(UsageError, match=r"\.zip or \.tar\.zst"), use(tmp_path / name):
            pass


@SUFFIXES
def test_what_is_there_and_no_evidence_is_not_replaced(tmp_path, suffix):
    path = tmp_path / f"photos{suffix}"
    entry = tarfile.TarInfo("a.jpg")
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as made:
            made.writestr("a.jpg", "x")
    else:
        tar(path, (entry, b"x"))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="holds no evidence"), packed(path):
        pass
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_somebody_packed_whole_is_found(tmp_path):
    write(tmp_path / "in" / "evidence")
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as made:
        for file in (tmp_path / "in").rglob("*"):
            made.write(file, file.relative_to(tmp_path / "in"))
    with opened(tmp_path / "e.zip") as folder:
        assert "verdicts.json" in content(folder)


@SUFFIXES
def test_an_archive_cut_short_anywhere_is_one_clear_error(tmp_path, suffix):
    path = tmp_path / f"evidence{suffix}"
    with packed(path) as folder:
        write(folder, **{f"rendered/{number}": os.urandom(2000).hex() for number in range(9)})
    whole = path.read_bytes()
    for part in range(0, len(whole), len(whole) // 23):
        path.write_bytes(whole[:part])
        with pytest.raises(DamagedArchive) as caught, opened(path):
            pass
        assert str(caught.value).startswith(f"{path} is damaged") and "\n" not in caught.value.message


@SUFFIXES
def test_an_archive_with_a_bit_turned_is_one_clear_error_or_whole(tmp_path, suffix):
    path = tmp_path / f"evidence{suffix}"
    with packed(path) as folder:
        write(folder, more="text " * 999)
        before = content(folder)
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 97)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            with opened(path) as folder:
                came = content(folder)
        except DamagedArchive:
            continue
        # A zip has no checksum of names, times and rights, nor of how many files it has.
        assert set(came.values()) <= set(before.values())
        assert suffix == ".zip" or came == before


OUT = ["../out", "/out", "a/../../out", "..", "a\\..\\out", "."]


@pytest.mark.parametrize("name", OUT)
def test_nothing_is_written_outside(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as made:
        made.writestr(name, "x")
    paths = [tmp_path / "e.zip", tar(tmp_path / "e.tar.zst", (tarfile.TarInfo(name), b"x"))]
    for path in paths:
        with pytest.raises(DamagedArchive, match="leads out"), opened(path):
            pass
    assert not (tmp_path.parent / "out").exists() and not Path("/out").exists()


def test_links_and_devices_are_refused(tmp_path):
    link, hard, device = (tarfile.TarInfo(name) for name in ("link", "hard", "device"))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "/etc/passwd"
    device.type = tarfile.CHRTYPE
    for entry in (link, hard, device):
        with (
            pytest.raises(DamagedArchive, match="neither"),
            opened(tar(tmp_path / "e.tar.zst", (entry, b""))),
        ):
            pass
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as made:
        made.writestr(entry, "/etc/passwd")
    with pytest.raises(DamagedArchive, match="neither"), opened(tmp_path / "e.zip"):
        pass


@SUFFIXES
def test_a_bomb_does_not_go_off(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"evidence{suffix}"
    with packed(path) as folder:
        write(folder, **{"rendered/big": "\0" * 10_000_000})
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(archive, "MOST_BYTES", 5_000_000)
    with pytest.raises(DamagedArchive, match="this is no evidence"), opened(path):
        pass
    monkeypatch.setattr(archive, "MOST_BYTES", 50_000_000)
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    with pytest.raises(DamagedArchive, match="this is no evidence"), opened(path):
        pass


def test_a_password_is_an_error_for_people(tmp_path):
    path = tmp_path / "e.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("verdicts.json", "{}")
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1  # encrypted
    path.write_bytes(data)
    with pytest.raises(DamagedArchive, match="password"), opened(path):
        pass


def test_what_is_not_there_says_how_to_make_it(tmp_path):
    with pytest.raises(UsageError, match="there is no file") as caught, opened(tmp_path / "e.zip"):
        pass
    assert "--evidence" in str(caught.value.hint)
