from pathlib import Path

import pytest

from testbed.engine import bootstrap, provision
from testbed.errors import MachineError

DEB822 = """\
# comment
Types: deb deb-src
URIs: http://one.example/debian
 https://two.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: cdrom:[disc]/
Suites: bookworm
Components: main
"""
ONE_LINE = """\
#deb http://comment.example/debian trixie main
deb [arch=amd64 signed-by=/x.gpg] http://three.example/debian trixie main non-free # main mirror
deb http://one.example/debian trixie main
deb-src http://source.example/debian trixie main
deb http://partial.example/apt trixie stable
deb http://flat.example/ ./
"""


@pytest.fixture
def sources(tmp_path: Path):
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / "debian.sources").write_text(DEB822)
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (folder / "extra.list").write_text("deb http://four.example/linux stable main\n")
    (folder / "off.list.disabled").write_text("deb http://off.example/debian trixie main\n")
    return tmp_path


def test_mirrors_of_both_formats_each_once(sources):
    assert bootstrap.apt_mirrors(sources) == [
        "http://one.example/debian",
        "https://two.example/debian/",
        "http://three.example/debian",
        "http://four.example/linux",
    ]


def test_a_machine_without_apt_has_none(tmp_path):
    assert bootstrap.apt_mirrors(tmp_path / "missing") == []


def test_the_first_one_that_has_the_suite_is_taken(sources, monkeypatch):
    asked = []
    monkeypatch.setattr(bootstrap, "_has_suite", lambda url, suite: asked.append(url) or "three" in url)
    assert bootstrap.host_mirror(sources) == "http://three.example/debian"
    assert len(asked) == 3
    monkeypatch.setattr(bootstrap, "_has_suite", lambda url, suite: False)
    assert bootstrap.host_mirror(sources) is None


def release(tmp_path, origin):
    folder = tmp_path / "dists" / bootstrap.SUITE
    folder.mkdir(parents=True)
    (folder / "InRelease").write_text(f"-----BEGIN PGP SIGNED MESSAGE-----\n\nOrigin: {origin}\nLabel: x\n")
    return tmp_path.as_uri()


def test_only_debian_itself_has_the_suite(tmp_path):
    assert bootstrap._has_suite(release(tmp_path / "debian", "Debian"), "trixie")
    assert not bootstrap._has_suite(release(tmp_path / "other", "Somebody"), "trixie")
    assert not bootstrap._has_suite((tmp_path / "none").as_uri(), "trixie")


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Stand in for mmdebstrap: a shell script that is given its arguments."""

    def install(script):
        path = tmp_path / "bin" / bootstrap.TOOL
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")

    return install


@pytest.fixture(autouse=True)
def debian_host(tmp_path, monkeypatch):
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / "debian-archive-trixie-stable.asc").touch()
    monkeypatch.setattr(bootstrap, "_TRUSTED", tmp_path / "trusted")
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 0)


def run(tmp_path, detail=lambda _: None):
    bootstrap.bootstrap(
        "http://one.example/debian",
        ["bird2", "socat"],
        tmp_path / "base.tar",
        dpkg_options=tmp_path / "dpkg.cfg",
        say=print,
        detail=detail,
    )


def test_the_tool_gets_packages_options_and_the_hosts_apt_settings(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap, "host_settings", lambda: [("Acquire::Check-Valid-Until", "false")])
    tool('for word; do echo "$word"; done')
    seen = []
    run(tmp_path, seen.append)
    assert {"--include=bird2,socat", f"--dpkgopt={tmp_path}/dpkg.cfg", "trixie"} <= set(seen)
    assert '--aptopt=Acquire::Check-Valid-Until "false"' in seen
    assert seen[-2:] == [f"{tmp_path}/base.tar", "deb http://one.example/debian trixie main"]


def test_elsewhere_than_on_debian_its_keys_are_named(tool, tmp_path, monkeypatch):
    monkeypatch.delenv(provision.ALLOWED, raising=False)  # or they would be installed
    monkeypatch.setattr(bootstrap, "_TRUSTED", tmp_path / "none")
    monkeypatch.setattr(bootstrap, "_KEYRING", tmp_path / "keyring.gpg")
    tool('for word; do echo "$word"; done')
    with pytest.raises(MachineError, match=r"keyring\.gpg is missing"):
        run(tmp_path)
    (tmp_path / "keyring.gpg").touch()
    seen = []
    run(tmp_path, seen.append)
    assert seen[-1] == f"deb [signed-by={tmp_path}/keyring.gpg] http://one.example/debian trixie main"


def test_a_failure_tells_the_tools_complaints(tool, tmp_path):
    tool("echo I: fetching; echo E: no such host >&2; echo W: hm; exit 25")
    with pytest.raises(MachineError, match=r"exit code 25\n  E: no such host\n  hint") as caught:
        run(tmp_path)
    assert "--mirror" in (caught.value.hint or "")


def test_without_the_tool_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(provision.ALLOWED, raising=False)
    with pytest.raises(MachineError) as caught:
        run(tmp_path)
    assert "apt-get install" in (caught.value.hint or "") and "mmdebstrap" in (caught.value.hint or "")
