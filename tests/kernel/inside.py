"""Runs a command under an ordinary kernel of our own that has a Docker engine of its own inside.

    python tests/kernel/inside.py [--out DIR] [--within SECONDS] [--planes kernel|userspace] [--image VARIANT]
        COMMAND …

COMMAND finds the machine's files, read only, and this checkout's testbed first in its PATH. What it writes
to /run/out stays in DIR, as does its output (DIR/log). Labs there have what this machine's kernel may lack:
ipip, gre, esp, netem. With `--planes userspace` that kernel lacks them, and processes take their place.
No network leads out of it: `--image bookworm` (libreswan, openiked) brings another variant of the node image.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import boot
import build

from testbed.engine.image import VARIANTS, base_image_name

HERE = Path(__file__).resolve().parents[2]
ENGINE = Path(__file__).with_name("engine")
MEMORY = "4G"
DISK = 8 << 30
"""Bytes that the engine's disk has; a sparse file."""


PLANES = {
    "kernel": [],
    "userspace": ["initcall_blacklist=ipip_init,ipgre_init,fou_init,esp4_init,vti_init,netem_module_init"],
}
"""What the kernel is given so that it, or processes, carry packets: it can be started without parts of it."""


def within_engine(
    disk: str, command: list[str], out: Path, within: float, planes: str = "kernel"
) -> boot.Ended:
    """Run a command beside an engine whose data is on `disk`, FILE or CHANGES,FILE."""
    line = [str(build.kernel()), f"mem={MEMORY}", "seccomp=on", f"ubd0={disk}", *PLANES[planes]]
    environment = {"PATH": f"{HERE}/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    inside = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(HERE), str(ENGINE), *command]
    return boot.run(inside, out, within=within, environment=environment, kernel=line)


def loaded(variants: Sequence[str] = ()) -> Path:
    """A disk for engines that has the bases of node images; it is made once.

    Raises RuntimeError, CalledProcessError.
    """
    image = base_image_name(*variants[-1:])
    name = "-".join(base_image_name(*one).partition(":")[2] for one in ((), *((one,) for one in variants)))
    disk = build.cache() / f"testbed-base-{name}.ext4"
    if disk.exists():
        return disk
    before = loaded(variants[:-1]) if variants else None
    out = build.cache() / f"loading-{name}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    fresh = out / "disk"
    if before:
        subprocess.run(["cp", "--sparse=always", str(before), str(fresh)], check=True)
    else:
        with fresh.open("wb") as file:
            file.truncate(DISK)
        subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", str(fresh)], check=True)
    subprocess.run(["docker", "save", "--output", str(out / "base.tar"), image], check=True)
    done = within_engine(str(fresh), ["docker", "load", "--input", "/run/out/base.tar"], out, 600)
    if done.code != 0:
        raise RuntimeError(f"the engine inside did not load {image}\n{done.output}{done.console}")
    fresh.replace(disk)
    shutil.rmtree(out)
    return disk


def run(
    command: list[str], out: Path, within: float, planes: str = "kernel", variants: Sequence[str] = ()
) -> boot.Ended:
    """Run a command; what it writes to /run/out stays in `out`.

    Raises RuntimeError, CalledProcessError where there is no disk for the engine, FileNotFoundError without a
    kernel.
    """
    if not build.kernel().exists():
        raise FileNotFoundError(f"no kernel yet\n  hint: python {Path(build.__file__).relative_to(HERE)}")
    out.mkdir(parents=True, exist_ok=True)
    changes = out / "changes"
    changes.unlink(missing_ok=True)
    (out / "code").unlink(missing_ok=True)
    try:
        return within_engine(f"{changes},{loaded(variants)}", command, out, within, planes)
    finally:
        changes.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("kernel-out"), help="default: kernel-out")
    parser.add_argument("--within", type=float, default=3600, help="seconds; default: 3600")
    parser.add_argument("--planes", choices=PLANES, default="kernel", help="default: kernel")
    parser.add_argument(
        "--image", action="append", default=[], choices=VARIANTS.values(), help="a variant to have"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    try:
        done = run(options.command, options.out.resolve(), options.within, options.planes, options.image)
    except (FileNotFoundError, RuntimeError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    print(done.output, end="")
    if done.code is None:
        sys.exit(f"the kernel ended first\n{done.console}")
    sys.exit(done.code)


if __name__ == "__main__":
    main()
