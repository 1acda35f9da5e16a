"""More addresses of a mobile node behind a VPN gateway: past IPsec, and through IPsec that `ip xfrm` sets up.

Their packets take the path of the VPN, over the gateway, which is made to let them pass.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any, Final

from benchmarks.common import run
from testbed.engine.api import Container, Engine
from testbed.lab.state import ActualLab

SPIS: Final = ("0x7001", "0x7002")
"""Of the SAs from and to the mobile node."""
REQUEST: Final = "7001"
FIRST: Final = "1"
"""The priority of our policies, before all others."""
INSERT: Final = ("nft", "insert", "rule", "inet")


class ByHand:
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

    def plain(self) -> str:
        """Return an address without IPsec; the Internet learns the way to it and to the peer."""
        address = self._open(100)
        self._route("core", self._peer, self._outside)
        self._route("core", address, self._way(self._lab.node("core"), self._care_of)["gateway"])
        self._route("hotel-router", address, self._care_of)
        if self._kernel:
            for direction, *ends in (("out", address, self._peer), ("in", self._peer, address)):
                self._policy(self._mobile, direction, *ends)
        else:
            for chain, field in (("output", "saddr"), ("input", "daddr")):
                run(self._engine, self._mobile, *INSERT, "vpn-client", chain, "ip", field, address, "accept")
        return address

    def protected(self) -> str:
        """Return an address with ESP in tunnel mode by the algorithm and key that charon's has."""
        address = self._open(101)
        state = run(self._engine, self._mobile, "ip", "xfrm", "state")
        algorithm = next(line.split() for line in state.splitlines() if line.strip().startswith("aead"))
        tunnels = ((self._care_of, self._outside), (self._outside, self._care_of))
        there, back = (address, self._peer), (self._peer, address)
        for node, policies in (
            (self._mobile, (("out", there), ("in", back))),
            (self._gateway, (("in", there), ("fwd", there), ("out", back))),
        ):
            for spi, (source, destination) in zip(SPIS, tunnels, strict=True):
                sa = ("src", source, "dst", destination, "proto", "esp", "spi", spi, "reqid", REQUEST)
                run(self._engine, node, "ip", "xfrm", "state", "add", *sa, "mode", "tunnel", *algorithm)
            for direction, ends in policies:
                self._policy(node, direction, *ends, tunnel=tunnels[ends is back])
        return address

    def _policy(
        self, node: Container, direction: str, source: str, destination: str, tunnel: Sequence[str] = ()
    ) -> None:
        """Let packets pass: in an ESP tunnel between two addresses, or as they are."""
        selector = ("src", source, "dst", destination, "dir", direction, "priority", FIRST)
        template: tuple[str, ...] = ()
        if tunnel:
            ends = ("src", tunnel[0], "dst", tunnel[1])
            template = ("tmpl", *ends, "proto", "esp", "reqid", REQUEST, "mode", "tunnel")
        run(self._engine, node, "ip", "xfrm", "policy", "add", *selector, *template)

    def _way(self, node: Container, *query: str) -> dict[str, Any]:
        """Return how the kernel of a node routes."""
        found: list[dict[str, Any]] = json.loads(run(self._engine, node, "ip", "-j", "route", "get", *query))
        return found[0]

    def _route(self, node: str, address: str, gateway: str) -> None:
        """Lead packets to an address over a neighbour of a node."""
        container = self._lab.node(node)
        way = ("via", gateway, "dev", self._way(container, gateway)["dev"], "onlink")
        run(self._engine, container, "ip", "route", "add", f"{address}/32", *way)

    def _open(self, number: int) -> str:
        """Give the mobile node an address, and have its packets pass the gateway outside of any tunnel."""
        address = str(self._inner + number)
        table = str(self._way(self._mobile, self._outside, "from", self._care_of).get("table", "main"))
        run(self._engine, self._mobile, "ip", "address", "add", f"{address}/32", "dev", "lo")
        rule = ("from", address, "lookup", table, "preference", "100")  # before those of the tunnels
        run(self._engine, self._mobile, "ip", "rule", "add", *rule)
        self._route("gw", address, self._way(self._gateway, self._care_of)["gateway"])
        for field in ("saddr", "daddr"):
            run(
                self._engine, self._gateway, *INSERT, "vpn-gateway", "forward", "ip", field, address, "accept"
            )
        return address
