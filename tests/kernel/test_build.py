"""The configuration of our own kernel is checked after the kernel's makefiles have had their say."""

import build


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
