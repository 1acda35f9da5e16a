"""An ordinary kernel of our own: user-mode Linux with all that nodes and a container engine use.

    python tests/kernel/build.py [SOURCE.tar.xz]

Debian's packaged user-mode Linux has no nftables for IPv4, so that labs with firewalls cannot run there.
This builds a kernel from Debian's package linux-source (the newest in /usr/src, or the archive named). It
takes ten minutes on two cores, and the kernel stays in the user's cache until the configuration changes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CONFIG = Path(__file__).with_name("config")
SOURCES = Path("/usr/src")
TOOLS = {"gcc": "gcc", "make": "make", "flex": "flex", "bison": "bison", "bc": "bc", "xz": "xz-utils"}
"""Programs that a kernel is built with, and the packages that have them."""
LIBELF = Path("/usr/include/libelf.h")


def cache() -> Path:
    """The folder for what is made once; it is there."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "testbed" / "kernel"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def newest() -> Path | None:
    """The newest of the kernel sources that are installed."""

    def version(path: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", path.name)]

    return max(SOURCES.glob("linux-source-*.tar.xz"), key=version, default=None)


def kernel() -> Path:
    """Where the kernel with this configuration is, or will be."""
    return cache() / f"linux-{hashlib.sha256(CONFIG.read_bytes()).hexdigest()[:12]}"


def missing(config: Path) -> list[str]:
    """The options of our fragment that the finished configuration does not have."""
    have = set(config.read_text().splitlines())
    return [
        line for line in CONFIG.read_text().splitlines() if line.startswith("CONFIG_") and line not in have
    ]


def lacking(source: Path | None) -> list[str]:
    """The packages without which a kernel cannot be built here from `source`."""
    packages = [package for program, package in TOOLS.items() if shutil.which(program) is None]
    if not LIBELF.exists():
        packages.append("libelf-dev")
    if source is None:
        packages.append("linux-source")
    return packages


def build(source: Path) -> None:
    """Build the kernel; raises CalledProcessError, ValueError for an option not taken."""
    with tempfile.TemporaryDirectory(dir=cache(), prefix="build-") as place:
        subprocess.run(
            ["tar", "--extract", "--strip-components=1", f"--file={source}"], cwd=place, check=True
        )
        make = ["make", "--quiet", "ARCH=um", f"--jobs={os.cpu_count()}"]
        subprocess.run([*make, "defconfig"], cwd=place, check=True)
        merge = ["scripts/kconfig/merge_config.sh", ".config", str(CONFIG)]
        subprocess.run(
            merge, cwd=place, env={**os.environ, "ARCH": "um"}, stdout=subprocess.DEVNULL, check=True
        )
        if lost := missing(Path(place, ".config")):
            raise ValueError(f"{source.name} does not take {' '.join(lost)}")
        subprocess.run([*make, "linux"], cwd=place, check=True)
        Path(place, "linux").replace(kernel())


def main() -> None:
    """Build unless it is there, and print where it is."""
    if not kernel().exists():
        source = Path(sys.argv[1]) if sys.argv[1:] else newest()
        if packages := lacking(source):
            sys.exit(f"this machine lacks what builds a kernel\n  hint: apt-get install {' '.join(packages)}")
        if source is None or not source.is_file():
            sys.exit(f"{source}: there is no such archive")
        try:
            build(source)
        except (subprocess.CalledProcessError, ValueError) as error:
            sys.exit(str(error))
    print(kernel())


if __name__ == "__main__":
    main()
