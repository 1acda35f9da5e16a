"""The kernel's netem on the egress of the hub interface."""

from __future__ import annotations

import json
from contextlib import suppress

from testbed.agreed import Impairment
from testbed.node.relay.link import LIMIT
from testbed.node.relay.spawn import CommandError, run

ORDERLY_RATE = 100_000_000_000
"""bit/s given to netem where none is asked for: with a rate it keeps the order of packets despite jitter."""


class Netem:
    """A netem qdisc at the root of `interface`."""

    name = "netem"
    detour = False

    def __init__(self, interface: str) -> None:
        self._interface = interface

    async def open(self) -> None:
        """Try netem once, where it is in nobody's way; the kernel may lack it."""
        await run("tc", "qdisc", "replace", "dev", "lo", "root", "netem", "delay", "0ms")
        await _remove("lo")

    async def apply(self, impairment: Impairment) -> None:
        """Set the qdisc, or remove it where nothing is to be done."""
        if impairment.active:
            await run(
                "tc", "qdisc", "replace", "dev", self._interface, "root", "netem", *arguments(impairment)
            )
        else:
            await _remove(self._interface)

    async def counters(self) -> dict[str, int]:
        """The qdisc's own counters; its drops are losses and overflows together."""
        counted = {"packets": 0, "bytes": 0, "lost": 0, "overflowed": 0, "held": 0}
        for qdisc in json.loads(await run("tc", "-s", "-j", "qdisc", "show", "dev", self._interface) or "[]"):
            if qdisc.get("kind") == "netem":
                counted |= {"packets": qdisc["packets"], "bytes": qdisc["bytes"], "lost": qdisc["drops"]}
                counted["held"] = qdisc.get("qlen", 0)
        return counted

    async def close(self) -> None:
        """Leave the qdisc: packets are treated as before until another relay starts."""


async def _remove(interface: str) -> None:
    with suppress(CommandError):  # there is none
        await run("tc", "qdisc", "del", "dev", interface, "root")


def arguments(impairment: Impairment) -> list[str]:
    """The arguments of `tc … netem`."""
    words = ["limit", str(LIMIT), "delay", f"{impairment.delay_ms:g}ms"]
    if impairment.jitter_ms:
        words.append(f"{impairment.jitter_ms:g}ms")
    if impairment.loss:
        words += ["loss", f"{impairment.loss:g}%"]
    if impairment.rate or impairment.jitter_ms:
        words += ["rate", f"{round(impairment.rate or ORDERLY_RATE)}bit"]
    return words
