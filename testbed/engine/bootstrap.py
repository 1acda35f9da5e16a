"""A Debian root file system without a registry: mmdebstrap, from the mirror that this machine's apt uses."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from testbed.engine import provision
from testbed.errors import MachineError

SUITE: Final = "trixie"
RECIPE: Final = (
    "mmdebstrap minbase trixie main 1"  # part of the base image's hash: count up when bootstrap() changes
)
TOOL: Final = "mmdebstrap"
PURPOSE: Final = "makes the node image where no registry answers"
TOOL_PACKAGES: Final = ("mmdebstrap", "debian-archive-keyring")

_SOURCES: Final = Path("/etc/apt")
_TRUSTED: Final = _SOURCES / "trusted.gpg.d"
_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MIRROR_TIMEOUT: Final = 10.0  # seconds to answer whether it has the suite
# Settings of the host's apt without which its mirror may not be usable.
_HOST_SETTINGS: Final = re.compile(
    r'^(Acquire::(?:Check-Valid-Until|Check-Date|Retries|https?::.*)) "(.*)";$'
)


def host_mirror(sources: Path = _SOURCES, suite: str = SUITE) -> str | None:
    """Return the first mirror in the host's apt sources that has the suite, by asking; None where none has.

    Asking decides, because others' repositories use Debian's suite names too and Ubuntu's mirrors have none.
    """
    return next((mirror for mirror in apt_mirrors(sources) if _has_suite(mirror, suite)), None)


def apt_mirrors(sources: Path = _SOURCES) -> list[str]:
    """Return the HTTP mirrors with a component `main` in apt's sources (both formats), each once."""
    folder = sources / "sources.list.d"
    one_line = [sources / "sources.list", *sorted(folder.glob("*.list"))]
    mirrors: dict[str, None] = {}
    for path in sorted(folder.glob("*.sources")):
        mirrors.update(dict.fromkeys(_from_deb822(_read(path))))
    for path in one_line:
        mirrors.update(dict.fromkeys(_from_lines(_read(path))))
    return [mirror for mirror in mirrors if mirror.startswith(("http://", "https://"))]


def bootstrap(
    mirror: str,
    packages: Sequence[str],
    target: Path,
    *,
    suite: str = SUITE,
    dpkg_options: Path | None = None,
    say: Callable[[str], None],
    detail: Callable[[str], None],
) -> None:
    """Write a root file system with `packages` to a tar file, or into a new folder.

    `suite` is the Debian release, `dpkg_options` a file of dpkg options. Needs root or user namespaces.
    Raises `MachineError`.
    """
    provision.require(TOOL, TOOL_PACKAGES, say, why=PURPOSE)
    if os.geteuid() != 0:
        provision.require("newuidmap", ["uidmap"], say, why=f"lets {TOOL} work without root")
    keys = ""
    if not any(_TRUSTED.glob("debian-archive-*")):  # not a Debian host: its apt does not know Debian's keys
        provision.require(str(_KEYRING), TOOL_PACKAGES[1:], say, why="checks whether a mirror is genuine")
        keys = f"[signed-by={_KEYRING}] "
    command = [
        TOOL,
        "--variant=minbase",
        f"--include={','.join(packages)}",
        *([f"--dpkgopt={dpkg_options}"] if dpkg_options else []),
        *(f'--aptopt={key} "{value}"' for key, value in host_settings()),
        # The host's settings are of no use in a node, and a proxy's password of harm.
        '--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap',
        suite,
        str(target),
        f"deb {keys}{mirror} {suite} main",
    ]
    complaints: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line := line.strip():
                detail(line)
                if line.startswith("E:"):
                    complaints.append(line)
    if process.returncode:
        raise MachineError(
            "\n  ".join([f"{TOOL} failed with exit code {process.returncode}", *complaints[:5]]),
            hint="testbed build -v shows its output; --mirror URL chooses another mirror",
        )


def _from_deb822(text: str) -> Iterator[str]:
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[key] = f"{fields.get(key, '')} {line.strip()}"
                continue
            key, _, value = line.partition(":")
            key = key.strip().lower()
            fields[key] = value.strip()
        if (
            "deb" in fields.get("types", "").split()
            and "main" in fields.get("components", "").split()
            and fields.get("enabled", "yes").lower() not in ("no", "false", "0", "off")
        ):
            yield from fields.get("uris", "").split()


def _from_lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+\S+\s+([^#]*)", line)
        if match and "main" in match[2].split():
            yield match[1]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _has_suite(mirror: str, suite: str) -> bool:
    url = f"{mirror.rstrip('/')}/dists/{suite}/InRelease"
    try:
        with urllib.request.urlopen(url, timeout=_MIRROR_TIMEOUT) as answer:
            return b"\nOrigin: Debian\n" in answer.read(4096)
    except (OSError, ValueError):
        return False


def host_settings() -> list[tuple[str, str]]:
    """Return the settings of this machine's apt that its mirror may need: proxies, retries, validity."""
    try:
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    matches = (_HOST_SETTINGS.match(line) for line in dump.splitlines())
    return [(match[1], match[2]) for match in matches if match and match[2]]
