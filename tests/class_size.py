"""Brings up a class of labs, sees that all are registered and carry data, measures, and removes them.

    python tests/class_size.py --count 20 [--topology plain-mip]

Prints one row of the table in docs/class.md. For use by hand, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from testbed.lab.limits import free_memory, free_neighbours

NAME = "class-size"
CLI = [sys.executable, "-m", "testbed"]


def command(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([*CLI, *arguments, "-o", "json"], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def resident() -> int:
    """The bytes that programs hold; free memory alone also counts what the kernel keeps of files."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["AnonPages"].split()[0]) * 1024


def pings(lab: str) -> bool:
    done = subprocess.run([*CLI, "exec", lab, "mn", "--", "ping", "-c", "3", "cn"], capture_output=True)
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--topology", default="plain-mip")
    options = parser.parse_args()
    before = free_memory() or 0, free_neighbours() or 0, resident()
    began = time.monotonic()
    try:
        labs = command("up", options.topology, "--count", str(options.count), "--name", NAME)["labs"]
        up = time.monotonic() - began
        states = command("status", f"{NAME}-*")["labs"]
        registered = sum(one["mobile"]["mn"]["state"] == "registered" for one in states)
        with ThreadPoolExecutor(4) as threads:
            reached = sum(threads.map(pings, [one["lab"] for one in labs]))
        after = free_memory() or 0, free_neighbours() or 0, resident()
        began = time.monotonic()
    finally:
        subprocess.run([*CLI, "down", f"{NAME}-*", "--if-exists", "-q"], check=True)
    down = time.monotonic() - began
    mib = 1 << 20
    print(
        f"| `{options.topology}` | {options.count} | {registered} | {reached} | {up:.0f} s | {down:.0f} s "
        f"| {(before[0] - after[0]) / mib:.0f} MiB | {(after[2] - before[2]) / mib:.0f} MiB "
        f"| {before[1] - after[1]} |"
    )
    return 0 if registered == reached == options.count else 1


if __name__ == "__main__":
    sys.exit(main())
