"""An address by DHCP: udhcpc, whose script is a single line of shell that writes to our pipe."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address, IPv4Interface
from pathlib import Path

from testbed.node.roam.links import Lease

SCRIPT = '#!/bin/sh\necho "$1 $interface $ip $mask ${router%% *}"\n'
"""udhcpc runs it at each step: event, interface, address, prefix length, first router."""


class DhcpError(Exception):
    """udhcpc cannot be run."""


class Dhcp:
    """One udhcpc at a time: it finds a lease and keeps it alive until `stop`."""

    def __init__(self, script: Path) -> None:
        self._script = script
        self._process: asyncio.subprocess.Process | None = None

    def prepare(self) -> None:
        """Write the script."""
        self._script.parent.mkdir(parents=True, exist_ok=True)
        self._script.write_text(SCRIPT)
        self._script.chmod(0o755)

    async def lease(self, interface: str) -> Lease:
        """Wait for a lease on `interface`; asks once a second until cancelled."""
        self.stop()
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                "udhcpc", "-f", "-i", interface, "-s", str(self._script), "-t", "1000", "-T", "1", "-A", "1",
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise DhcpError(f"udhcpc: {error}") from error
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                if (lease := parse(line.decode(errors="replace"))) is not None:
                    return lease
        except asyncio.CancelledError:
            _kill(process)
            raise
        raise DhcpError(f"udhcpc ended with {await process.wait()}")

    def stop(self) -> None:
        """End udhcpc without a word to the server: the link is going away."""
        process, self._process = self._process, None
        if process is not None:
            _kill(process)


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()


def parse(line: str) -> Lease | None:
    """The lease a line of the script speaks of; None for the other steps and for what makes no sense."""
    words = line.split()
    if len(words) < 4 or words[0] not in ("bound", "renew"):
        return None
    try:
        address = IPv4Interface(f"{words[2]}/{words[3]}")
        router = IPv4Address(words[4]) if len(words) > 4 else None
    except (AddressValueError, ValueError):
        return None
    return Lease(words[1], address, router)
