"""One change of a lab at a time on this machine, without leaving a file behind."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Iterator

from testbed.errors import UsageError


@contextlib.contextmanager
def lab_lock(lab: str, engine: str) -> Iterator[None]:
    """Hold the lock of a lab of the engine at this address. Raises `UsageError` while another process does.

    An abstract Unix socket is the lock: the kernel frees its name when the process ends, however it ends.
    Where there are none (not Linux), or the other process is on another machine, the engine's refusal of a
    name that is taken has to do.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        try:
            lock.bind(f"\0testbed/{lab}/{engine}"[:107])
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise UsageError(
                f"another testbed is changing lab {lab} at this moment",
                hint="wait for it; testbed up with another --name makes a second lab",
            ) from None
        yield
