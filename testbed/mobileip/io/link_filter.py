"""Lets a foreign agent forward for a visitor only what its own link address sent.

A registration proves the sender of the request, not the senders of what then comes from the visitor's
address: others could inject packets into a reverse tunnel (RFC 3024 §6.1). The link address of the request
(RFC 5944 §3.7.1) keeps out all on the link who do not forge that, too. Routing rules know no link addresses,
and so nftables decides.
"""

from __future__ import annotations

import errno
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address
from itertools import count

from testbed.mobileip.io.errors import NodeError
from testbed.mobileip.wire.gre import Gre
from testbed.mobileip.wire.ip_in_ip import IpInIp
from testbed.mobileip.wire.minimal import Minimal

Pair = tuple[IPv4Address, bytes]
"""An address of a visitor and its link address."""

_ADDRESSES, _VISITORS = "addresses", "visitors"
_TUNNELS = ", ".join(str(each.protocol) for each in (IpInIp, Gre, Minimal))
# From linux/netlink.h, nfnetlink.h and nf_tables.h.
_NETLINK_NETFILTER, _ERROR, _BATCH_BEGIN, _BATCH_END = 12, 2, 0x10, 0x11
_NF_TABLES, _NEW_ELEMENTS, _DELETE_ELEMENTS = 10, 12, 14
_REQUEST, _ACK, _CREATE, _NESTED = 0x1, 0x4, 0x400, 0x8000
_TABLE, _SET, _ELEMENTS = 1, 2, 3
_ELEMENT = _KEY = _VALUE = 1
_HEADER, _MESSAGE = struct.Struct("=IHHII"), struct.Struct("!BBH")


class LinkFilter:
    """Drops what comes from a visitor's address by another link address, instead of forwarding it.

    That goes for what is forwarded as it is, and for what a visitor tunnels to this node itself (RFC 3024
    §5.2.1): "after verifying that it was sent by the mobile node".
    """

    def __init__(self, interface: str) -> None:
        """Make a table for what arrives on `interface`; raises NodeError where nftables is missing."""
        self.table = "mobileip_" + re.sub(r"\W", "_", interface)
        self._numbers = count(1)
        _nft(
            f"table ip {self.table}\n"  # a killed predecessor's
            f"delete table ip {self.table}\n"
            f"table ip {self.table} {{\n"
            f"set {_ADDRESSES} {{ type ipv4_addr; }}\n"
            f"set {_VISITORS} {{ type ipv4_addr . ether_addr; }}\n"
            f"chain forward {{ type filter hook forward priority filter;\n"
            f'iifname "{interface}" ip saddr @{_ADDRESSES} '
            f"ip saddr . ether saddr != @{_VISITORS} counter drop\n"
            "}\n"
            f"chain input {{ type filter hook input priority filter;\n"
            f'iifname "{interface}" ip saddr @{_ADDRESSES} ip protocol {{ {_TUNNELS} }} '
            f"ip saddr . ether saddr != @{_VISITORS} counter drop\n"
            f'iifname != "{interface}" ip saddr @{_ADDRESSES} ip protocol {{ {_TUNNELS} }} counter drop\n'
            "}\n}\n"
        )
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)

    def replace(self, before: Iterable[Pair], after: Iterable[Pair]) -> None:
        """Cease to know the visitors `before` and know those `after`, in one step; raises NodeError."""
        before, after = set(before), set(after)
        messages = [
            message
            for command, pairs in ((_DELETE_ELEMENTS, before - after), (_NEW_ELEMENTS, after - before))
            if pairs
            for message in (
                self._message(command, _VISITORS, [ip.packed + mac + b"\0\0" for ip, mac in pairs]),
                self._message(command, _ADDRESSES, [ip.packed for ip, _ in pairs]),
            )
        ]
        if not messages:
            return
        batch = [_batch(_BATCH_BEGIN), *messages, _batch(_BATCH_END)]
        self._socket.send(b"".join(batch))
        errors = []
        with suppress(BlockingIOError):  # the answers are there when `send` returns
            while True:
                kind, error = struct.unpack_from("=4xH10xi", self._socket.recv(0x10000, socket.MSG_DONTWAIT))
                if kind == _ERROR and error:
                    errors.append(errno.errorcode.get(-error, str(-error)))
        if errors:
            raise NodeError(f"nftables: elements of {self.table}: {', '.join(errors)}")

    def _message(self, command: int, name: str, keys: Iterable[bytes]) -> bytes:
        elements = b"".join(
            _attribute(_ELEMENT | _NESTED, _attribute(_KEY | _NESTED, _attribute(_VALUE, key)))
            for key in keys
        )
        body = (
            _MESSAGE.pack(socket.AF_INET, 0, 0)
            + _attribute(_TABLE, self.table.encode() + b"\0")
            + _attribute(_SET, name.encode() + b"\0")
            + _attribute(_ELEMENTS | _NESTED, elements)
        )
        flags = _REQUEST | _ACK | (_CREATE if command == _NEW_ELEMENTS else 0)
        kind = _NF_TABLES << 8 | command
        return _HEADER.pack(_HEADER.size + len(body), kind, flags, next(self._numbers), 0) + body

    def close(self) -> None:
        """Remove the table."""
        self._socket.close()
        with suppress(NodeError):  # somebody has flushed the ruleset
            _nft(f"delete table ip {self.table}\n")


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _batch(kind: int) -> bytes:
    return _HEADER.pack(_HEADER.size + _MESSAGE.size, kind, _REQUEST, 0, 0) + _MESSAGE.pack(0, 0, _NF_TABLES)


def _nft(script: str) -> None:
    program = shutil.which("nft") or "/usr/sbin/nft"
    try:
        subprocess.run(
            [program, "-f", "-"], input=script, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NodeError(f"nftables: {getattr(error, 'stderr', '') or error}") from error
