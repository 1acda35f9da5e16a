"""How a mobile node without a home address hears of one (RFC 2794, RFC 5944 §3.7.2.3)."""

from __future__ import annotations

from collections.abc import Callable
from socket import socket

from testbed.mobileip.core.api import Datagram
from testbed.mobileip.io.packet import (
    ETH_P_IP,
    REGISTRATION,
    add_checksum_state,
    open_listener,
    packets,
    registration,
)

Watch = Callable[[socket, Callable[[], None]], None]
"""Has a socket's callback called when it is readable."""


class ReplyListener:
    """Takes replies that are for the home address they bring: IP drops what is for no address of ours.

    A listener stays with its link, and is idle as soon as `wanted` says so.
    """

    def __init__(self, watch: Watch, wanted: Callable[[], bool], receive: Callable[[Datagram], None]) -> None:
        self._watch = watch
        self._wanted = wanted
        self._receive = receive
        self._links: set[str] = set()

    def listen(self, interface: str) -> None:
        """Listen on a link, too, if that is wanted; raises NodeError."""
        if interface in self._links or not self._wanted():
            return
        sock = open_listener(interface, ETH_P_IP, REGISTRATION)
        add_checksum_state(sock)
        self._links.add(interface)
        self._watch(sock, lambda: self._read(sock, interface))

    def _read(self, sock: socket, interface: str) -> None:
        for packet in packets(sock):
            found = registration(packet, interface)
            if found is not None and self._wanted():
                self._receive(found)
