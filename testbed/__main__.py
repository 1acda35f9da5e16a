"""The process of the command line, interruptible from its first import on."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        from testbed.cli import main as run

        return run()
    except KeyboardInterrupt:  # while typer and the command files are imported; later `run` reports it
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
