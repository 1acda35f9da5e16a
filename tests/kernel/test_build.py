"""The configuration of our own kernel is checked after the kernel's makefiles have had their say."""

import build
import pytest


def test_an_option_that_the_kernel_did_not_take_is_found(tmp_path):
    wanted = build.CONFIG.read_text()
    finished = tmp_path / ".config"
    finished.write_text(wanted)
    assert build.missing(finished) == []
    finished.write_text(wanted.replace("CONFIG_NF_TABLES_IPV4=y", "# CONFIG_NF_TABLES_IPV4 is not set"))
    assert build.missing(finished) == ["CONFIG_NF_TABLES_IPV4=y"]


def test_another_configuration_is_another_kernel(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = build.kernel()
    other = tmp_path / "config"
    other.write_text(build.CONFIG.read_text() + "CONFIG_X=y\n")
    monkeypatch.setattr(build, "CONFIG", other)
    assert build.kernel() != before


def test_the_newest_source_is_chosen_by_number(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    assert build.newest() is None
    for version in ("6.1", "6.12", "6.9"):
        (tmp_path / f"linux-source-{version}.tar.xz").touch()
    assert build.newest() == tmp_path / "linux-source-6.12.tar.xz"


def test_what_is_missing_is_named_as_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "LIBELF", tmp_path)
    monkeypatch.setattr(build.shutil, "which", lambda name: name)
    assert build.lacking(tmp_path) == []
    assert build.lacking(None) == ["linux-source"]
    monkeypatch.setattr(build, "LIBELF", tmp_path / "libelf.h")
    monkeypatch.setattr(build.shutil, "which", lambda name: None if name in ("bc", "xz") else name)
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    monkeypatch.setattr(build.sys, "argv", ["build.py"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(SystemExit, match=r"hint: apt-get install bc xz-utils libelf-dev linux-source$"):
        build.main()
