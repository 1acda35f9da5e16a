"""More addresses of a mobile node behind a VPN gateway, whose packets do without the IPsec of the testbed.

They take the same path: one in clear, and one in ESP that was set up by hand.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any, Final

from benchmarks.common import run
from testbed.engine.api import Container, Engine
from testbed.lab.state import ActualLab

INSERT: Final = ("nft", "insert", "rule", "inet")
CIPHER: Final = "rfc4106(gcm(aes))"
"""What charon negotiates here: aes128gcm16."""


class PastIpsec:
    """Makes such addresses beside `inner`, in the gateway's pool, to which routers know the way.

    `kernel` says whether the kernel carries ESP, and has policies about it.
    """

    def __init__(self, engine: Engine, lab: ActualLab, kernel: bool, care_of: str, inner: str) -> None:
        self._engine, self._lab = engine, lab
        self._kernel = kernel
        self._mobile, self._gateway = lab.node("mn"), lab.node("gw")
        self._care_of = care_of
        self._inner = IPv4Address(inner)
        self._peer = run(engine, self._mobile, "getent", "ahostsv4", "cn").split()[0]
        self._outside = self._way(self._gateway, care_of)["prefsrc"]

    def open(self) -> str:
        """Return an address whose packets gateway, mobile node and routers let pass in clear."""
        address = self._address(100)
        self._route("core", self._peer, self._outside)
        self._route("core", address, self._way(self._lab.node("core"), self._care_of)["gateway"])
        self._route("hotel-router", address, self._care_of)
        if self._kernel:
            for direction, source, destination in (("out", address, self._peer), ("in", self._peer, address)):
                ends = ("src", source, "dst", destination, "dir", direction, "priority", "1")
                run(self._engine, self._mobile, "ip", "xfrm", "policy", "add", *ends)
        else:
            for chain, field in (("output", "saddr"), ("input", "daddr")):
                run(self._engine, self._mobile, *INSERT, "vpn-client", chain, "ip", field, address, "accept")
        return address

    def by_hand(self) -> str:
        """Return an address whose packets are in ESP by `ip xfrm` alone: no charon, no interface for it.

        The kernel must carry ESP. The gateway's end is an address of its own, which its interface for IPsec
        does not know.
        """
        address = self._address(101)
        end = str(IPv4Address(self._outside) + 100)
        outside = self._way(self._gateway, self._care_of)["dev"]
        run(self._engine, self._gateway, "ip", "address", "add", f"{end}/32", "dev", outside)
        way = ((self._care_of, end, address, self._peer), (end, self._care_of, self._peer, address))
        for number, (*ends, source, destination) in enumerate(way):
            key = f"0x{secrets.token_hex(20)}"
            outer = ("src", ends[0], "dst", ends[1])
            inner = ("src", source, "dst", destination)
            spi = ("proto", "esp", "spi", f"0x{0x201 + number:x}")
            for node in (self._mobile, self._gateway):
                aead = ("mode", "tunnel", "replay-window", "32", "aead", CIPHER, key, "128")
                run(self._engine, node, "ip", "xfrm", "state", "add", *outer, *spi, *aead)
                for direction in _directions(sends=(node is self._mobile) is (number == 0)):
                    template = ("tmpl", *outer, "proto", "esp", "mode", "tunnel")
                    policy = (*inner, "dir", direction, "priority", "1", *template)
                    run(self._engine, node, "ip", "xfrm", "policy", "add", *policy)
        return address

    def _address(self, number: int) -> str:
        """Return an address of the mobile node whose packets look for their way past the tunnels."""
        address = str(self._inner + number)
        table = str(self._way(self._mobile, self._outside, "from", self._care_of).get("table", "main"))
        run(self._engine, self._mobile, "ip", "address", "add", f"{address}/32", "dev", "lo")
        rule = ("from", address, "lookup", table, "preference", "100")  # before those of the tunnels
        run(self._engine, self._mobile, "ip", "rule", "add", *rule)
        for field in ("saddr", "daddr"):
            run(
                self._engine, self._gateway, *INSERT, "vpn-gateway", "forward", "ip", field, address, "accept"
            )
        self._route("gw", address, self._way(self._gateway, self._care_of)["gateway"])
        return address

    def _way(self, node: Container, *query: str) -> dict[str, Any]:
        """Return how the kernel of a node routes."""
        found: list[dict[str, Any]] = json.loads(run(self._engine, node, "ip", "-j", "route", "get", *query))
        return found[0]

    def _route(self, node: str, address: str, gateway: str) -> None:
        """Lead packets to an address over a neighbour of a node."""
        container = self._lab.node(node)
        way = ("via", gateway, "dev", self._way(container, gateway)["dev"], "onlink")
        run(self._engine, container, "ip", "route", "add", f"{address}/32", *way)


def _directions(*, sends: bool) -> Iterator[str]:
    """Where policies about what a node sends, or receives and forwards, are."""
    yield from ("out",) if sends else ("in", "fwd")
