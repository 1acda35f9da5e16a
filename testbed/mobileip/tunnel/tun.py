"""The data plane that needs no kernel tunnel: a TUN device served by a process of its own."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.mobileip.tunnel.api import DEVICE, PlaneError, Side, Tunnel
from testbed.mobileip.tunnel.kernel import answer_again, silence

if TYPE_CHECKING:
    from testbed.mobileip.io.netlink import Netlink

TUN_CLONE = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
BUSY_PATIENCE = 2.0
"""Seconds a predecessor's process may take to let go of the device."""
REPLY_PATIENCE = 5.0
"""Seconds the process may take to answer a command: far more than it ever does."""
WORKER = "testbed.mobileip.tunnel.worker"


def open_device(name: str) -> int:
    """Create the TUN device `name`; it lives as long as the descriptor. Raises PlaneError."""
    try:
        descriptor = os.open(TUN_CLONE, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise PlaneError(f"{TUN_CLONE}: {error.strerror}; give the node this device") from error
    until = time.monotonic() + BUSY_PATIENCE
    while True:
        try:
            fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
            return descriptor
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > until:
                os.close(descriptor)
                raise PlaneError(f"cannot create the TUN device {name}: {error.strerror}") from error
        time.sleep(0.01)


class TunPlane:
    """Carries datagrams through the TUN device `mip0` (`worker` says how)."""

    backend = "tun"
    anchor = DEVICE

    def __init__(self, side: Side, netlink: Netlink) -> None:
        """Create the device and start the process; raises PlaneError."""
        device = open_device(DEVICE)
        self._netlink = netlink
        silence(netlink)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(REPLY_PATIENCE)
        arguments = [sys.executable, "-S", "-P", "-m", WORKER, str(device), str(theirs.fileno()), side.value]
        # Without the site module start-up is short; so this is how the process finds the package.
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        for descriptor in (device, theirs.fileno()):
            os.set_inheritable(descriptor, True)
        try:
            self._process = os.posix_spawn(
                sys.executable, arguments, environment, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)]
            )
        except OSError as error:
            raise PlaneError(f"cannot start {WORKER}: {error.strerror}") from error
        finally:
            # The process alone holds the device now: it goes when the process does.
            os.close(device)
            theirs.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            self._control.send(json.dumps(request).encode())
            reply: dict[str, Any] = json.loads(self._control.recv(0x10000) or b'{"error": "it has ended"}')
        except OSError as error:
            raise PlaneError(f"the tunnel process does not answer: {error}") from error
        if "error" in reply:
            raise PlaneError(f"the tunnel process: {reply['error']}")
        return reply

    def set(self, tunnel: Tunnel) -> str:
        """Set up or replace the tunnel of `tunnel.mobile`; returns the device. Raises PlaneError."""
        remotes = [str(remote) for remote in tunnel.remotes]
        self._ask({"set": str(tunnel.mobile), "local": str(tunnel.local), "remotes": remotes})
        return DEVICE

    def remove(self, mobile: IPv4Address) -> None:
        """Take down the tunnel of `mobile`; with the process it has gone anyway, and `fileno` tells that."""
        with suppress(PlaneError):
            self._ask({"remove": str(mobile)})

    def counters(self) -> Mapping[str, int]:
        """Packets and bytes in each direction, and what was dropped and why."""
        return self._ask({"counters": True})

    def fileno(self) -> int:
        """Becomes readable when the process has died: it says nothing unasked."""
        return self._control.fileno()

    def close(self) -> None:
        """End the process, and with it the device."""
        self._control.close()
        answer_again(self._netlink)
        until = time.monotonic() + 1.0
        while os.waitpid(self._process, os.WNOHANG)[0] == 0:
            if time.monotonic() > until:
                os.kill(self._process, signal.SIGKILL)
                os.waitpid(self._process, 0)
                return
            time.sleep(0.002)
