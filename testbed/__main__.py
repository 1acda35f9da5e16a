"""The process of the command line, interruptible from its first import on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

_SAID = "interrupted"


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: nothing has begun, and a library that is being imported may catch an exception."""
    with contextlib.suppress(OSError):
        os.write(2, f"{_SAID}\n".encode())
    os._exit(130)


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        before = signal.getsignal(signal.SIGINT)
        if before is signal.default_int_handler:  # ignored, it stays so
            signal.signal(signal.SIGINT, _leave)
        try:
            from testbed.cli import main as run
        finally:
            signal.signal(signal.SIGINT, before)
        return run()
    except KeyboardInterrupt:  # in between; later `run` reports it
        print(_SAID, file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
