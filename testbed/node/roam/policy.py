"""The IPsec policy of the mobile node, as far as it changes: its link, and the addresses that are inside.

Its rules drop what IPsec protects wherever it would leave, or has come in, unprotected, except from and to
the addresses inside.  An address is let in with the time for which it may stay; the kernel ends that even if
nobody here is alive any more.  In `/etc/testbed/esp`, `kernel.policies` has the rules for ESP in the kernel,
whose own they are, and `userspace.nft` those for ESP in userspace, which nftables emulates.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import subprocess
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address
from typing import Protocol

from testbed.agreed import INSIDE_PRIORITY, IPSEC_DEVICE
from testbed.node.roam.links import LinkError

LIBRARY = "libnftables.so.1"
SET = "inet vpn-client inside"
REGISTRATIONS = INSIDE_PRIORITY + 1
"""The priority of the policy that lets registration replies in."""


class Policy(Protocol):
    """What the monitor of the mobile node's whereabouts opens and closes; raises LinkError."""

    def join(self, link: str) -> None:
        """From now on packets come from `link` alone."""

    def admit(self, addresses: Iterable[IPv4Address], seconds: float) -> None:
        """Let packets from and to `addresses`, and no others, pass unprotected for this long."""

    def close(self) -> None:
        """Let nothing pass unprotected."""


class EmulatedPolicy:
    """The set `inside` of nftables; raises LinkError where it cannot be changed.

    libnftables is called in-process: a change takes 0.1 to 0.7 ms, and running nft(8) would take 5 to 14 ms.
    """

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise LinkError(f"IPsec policy: {error}") from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self._library = library
        self._context = ctypes.c_void_p(library.nft_ctx_new(ctypes.c_uint32(0)))
        library.nft_ctx_buffer_error(self._context)

    def join(self, link: str) -> None:
        """Do nothing: the rules of nftables know links."""

    def admit(self, addresses: Iterable[IPv4Address], seconds: float) -> None:
        """Let packets from and to `addresses`, and no others, pass unprotected for this long."""
        timeout = f"timeout {max(1, round(seconds * 1000))}ms"
        elements = ", ".join(f"{address} {timeout}" for address in addresses)
        self._run(f"flush set {SET}; add element {SET} {{ {elements} }}")  # one transaction

    def close(self) -> None:
        """Let nothing pass unprotected."""
        self._run(f"flush set {SET}")

    def _run(self, commands: str) -> None:
        if self._library.nft_run_cmd_from_buffer(self._context, commands.encode()):
            complaint = self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
            raise LinkError(f"IPsec policy: {complaint.strip().partition(chr(10))[0]}")


class KernelPolicy:
    """The kernel's own policy database (RFC 4301 §4.4.1); raises LinkError where it cannot be changed."""

    def __init__(self, links: Iterable[str], registering: Collection[str] = ()) -> None:
        """Of what comes in, the kernel judges what comes from `links`, and not what came out of ESP.

        On links that are `registering` registration replies come in unprotected.
        """
        self._registering = registering
        self._replies = None if registering else False
        """Whether they come in now; None: as a predecessor left it."""
        for link in links:
            _judge(link, True)
        _judge(IPSEC_DEVICE, False)
        self._admitted: tuple[IPv4Address, ...] = ()

    def join(self, link: str) -> None:
        """From now on packets come from `link` alone; what the kernel judges them by knows no link."""
        replies = link in self._registering
        if replies is not self._replies:
            allowed = f"update dir in proto udp sport 434 priority {REGISTRATIONS} action allow"
            self._run(allowed if replies else f"deleteall dir in priority {REGISTRATIONS}")
            self._replies = replies

    def admit(self, addresses: Iterable[IPv4Address], seconds: float) -> None:
        """Let packets from and to `addresses`, and no others, pass unprotected for this long.

        The kernel counts whole seconds: without us it ends by up to one second too early.
        """
        before, self._admitted = self._admitted, tuple(addresses)
        limit = f"limit time-hard {max(1, int(seconds))}"
        allowed = f"priority {INSIDE_PRIORITY} action allow {limit}"
        gone = [address for address in before if address not in self._admitted]
        self._run(
            *(f"update {way} {allowed}" for address in self._admitted for way in _ways(address)),
            *(f"delete {way}" for address in gone for way in _ways(address)),
        )

    def close(self) -> None:
        """Let nothing pass unprotected."""
        self._admitted = ()
        # Sockets keep the way that they found when a policy goes, and look for it anew when one comes: this
        # one is of no other use, as nothing is judged on `lo`.
        anew = f"update dir out dev lo priority {INSIDE_PRIORITY - 1} action allow"
        self._run(f"deleteall priority {INSIDE_PRIORITY}", anew)

    def _run(self, *commands: str) -> None:
        lines = "".join(f"xfrm policy {command}\n" for command in commands)
        done = subprocess.run(["ip", "-batch", "-"], input=lines, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LinkError(f"IPsec policy: {done.stderr.strip().partition(chr(10))[0]}")


def _ways(address: IPv4Address) -> tuple[str, str]:
    return f"dir out src {address}/32", f"dir in dst {address}/32"


_SETLINK, _REQUEST, _ACKNOWLEDGE = 19, 1, 4
_AF_SPEC, _INET_CONF, _NOPOLICY = 26, 1, 16  # IFLA_AF_SPEC, IFLA_INET_CONF, IPV4_DEVCONF_NOPOLICY


def _judge(interface: str, judged: bool) -> None:
    """Have the kernel apply its policy to what an interface takes in, or not (`disable_policy`).

    Over rtnetlink, as files below /proc/sys cannot be written in a container. Raises LinkError.
    """
    try:
        request = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(interface), 0, 0)
        attribute = struct.pack("=HHI", 8, _NOPOLICY, not judged)
        for kind in (_INET_CONF, socket.AF_INET, _AF_SPEC):
            attribute = struct.pack("=HH", 4 + len(attribute), kind) + attribute
        request += attribute
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
            kernel.send(
                struct.pack("=IHHII", 16 + len(request), _SETLINK, _REQUEST | _ACKNOWLEDGE, 1, 0) + request
            )
            (error,) = struct.unpack_from("=i", kernel.recv(4096), 16)
    except OSError as failure:
        raise LinkError(f"IPsec policy of {interface}: {failure}") from failure
    if error:
        raise LinkError(f"IPsec policy of {interface}: error {-error}")
