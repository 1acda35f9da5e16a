"""Checks of VPN clients: what of a stack their settings need."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.document.functions import Meaning
from testbed.topology.cast import Cast
from testbed.topology.homes import Problem


def check_clients(cast: Cast) -> Iterator[Problem]:
    """What is wrong with settings that are of use with some stacks only."""
    stack = cast.topology.options.get("stack")
    for name in cast.topology.nodes:
        if cast.meant(name, Meaning.MOBIKE) and stack is not None and not stack.allows("mip-in-ipsec"):
            key = cast.written_as(name, Meaning.MOBIKE)
            yield (
                ("nodes", name, "settings", key),
                f"{key} needs the stack mip-in-ipsec, which this topology does not offer",
                "add mip-in-ipsec to the choices of the option stack, or leave it out",
            )
