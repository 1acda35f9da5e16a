"""The IPsec policy of the mobile node, as far as it changes: the addresses that are inside.

The rules are in `/etc/nftables.d/vpn-client.nft`.  They drop what IPsec protects wherever it would leave, or
has come in, unprotected, except from and to the addresses in their set `inside`.  An address enters the set
with the time for which it may stay; the kernel takes it out again even if nobody here is alive any more.

libnftables is called in-process: a change takes 0.1 to 0.7 ms, and running nft(8) would take 5 to 14 ms.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from ipaddress import IPv4Address

from testbed.node.roam.links import LinkError

LIBRARY = "libnftables.so.1"
SET = "inet vpn-client inside"


class Policy:
    """The set `inside`; raises LinkError where it cannot be changed."""

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
