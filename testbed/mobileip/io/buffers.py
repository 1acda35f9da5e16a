"""Room in sockets for bursts of packets."""

from __future__ import annotations

import socket
from contextlib import suppress

# From asm-generic/socket.h, which the socket module does not name.
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
SIZE = 4 << 20


def enlarge(sock: socket.socket, *options: int) -> None:
    """Set these buffers to `SIZE` bytes, beyond the limit for users; without the right they stay as they are.

    The default size does, with more drops in a flood.
    """
    for option in options or (SO_RCVBUFFORCE,):
        with suppress(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, option, SIZE)
