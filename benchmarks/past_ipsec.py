"""One more address of a mobile node behind a VPN gateway, whose packets take the VPN's path without IPsec."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from typing import Any, Final

from benchmarks.common import run
from testbed.engine.api import Container, Engine
from testbed.lab.state import ActualLab

INSERT: Final = ("nft", "insert", "rule", "inet")


class PastIpsec:
    """Makes such an address beside `inner`, in the gateway's pool, to which routers know the way.

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
        """Return the address; the gateway, the mobile node's policy and the routers let it pass."""
        address = str(self._inner + 100)
        table = str(self._way(self._mobile, self._outside, "from", self._care_of).get("table", "main"))
        run(self._engine, self._mobile, "ip", "address", "add", f"{address}/32", "dev", "lo")
        rule = ("from", address, "lookup", table, "preference", "100")  # before those of the tunnels
        run(self._engine, self._mobile, "ip", "rule", "add", *rule)
        for field in ("saddr", "daddr"):
            run(
                self._engine, self._gateway, *INSERT, "vpn-gateway", "forward", "ip", field, address, "accept"
            )
        self._route("gw", address, self._way(self._gateway, self._care_of)["gateway"])
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

    def _way(self, node: Container, *query: str) -> dict[str, Any]:
        """Return how the kernel of a node routes."""
        found: list[dict[str, Any]] = json.loads(run(self._engine, node, "ip", "-j", "route", "get", *query))
        return found[0]

    def _route(self, node: str, address: str, gateway: str) -> None:
        """Lead packets to an address over a neighbour of a node."""
        container = self._lab.node(node)
        way = ("via", gateway, "dev", self._way(container, gateway)["dev"], "onlink")
        run(self._engine, container, "ip", "route", "add", f"{address}/32", *way)
