"""Whether every mobile node has a home address, or an NAI to be assigned one (RFC 2794)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from testbed.document.functions import Function, Meaning
from testbed.document.marks import Path
from testbed.topology.cast import Cast

Problem = tuple[Path, str, str | None]
"""A node or one of its settings, what is wrong with it, and a hint."""


def _setting(cast: Cast, name: str, meaning: Meaning) -> Path:
    return ("nodes", name, "settings", cast.written_as(name, meaning))


def check_homes(cast: Cast) -> Iterator[Problem]:
    """What is wrong with NAIs and the pools of home agents."""
    for name, node in cast.topology.nodes.items():
        if cast.acts_as(name, Function.HOME_AGENT):
            pool, home = cast.meant(name, Meaning.HOME_POOL), cast.home_prefix(name)
            if pool is not None and home is not None and not pool.subnet_of(home):
                message = f"expected a prefix within {home}, the home network of {name}, got {pool}"
                yield _setting(cast, name, Meaning.HOME_POOL), message, None
        nai = cast.meant(name, Meaning.NAI)
        if nai is not None and not re.fullmatch(r"[^\s@]+@[^\s@.]+(\.[^\s@.]+)+", nai):
            message = f"expected a network access identifier such as {name}@example.net, got {nai}"
            yield _setting(cast, name, Meaning.NAI), message, None
            continue
        keys = cast.keys(name, Meaning.HOME_ADDRESS)
        if not keys or any(node.settings.get(key) is not None for key in keys):
            continue
        written = cast.written_as(name, Meaning.HOME_ADDRESS)
        if nai is None and not any(node.settings.get(key) for key in cast.keys(name, Meaning.NAI)):
            key = cast.written_as(name, Meaning.NAI)
            message = f"a mobile node needs a {written}, or a {key} to be assigned one"
            hint = f"settings: {{{written}: ADDRESS}}, or {{{key}: {name}@example.net}}"
            yield ("nodes", name), message, hint
        elif cast.home_address(name) is None and cast.home_agent(name) in cast.topology.nodes:
            message = f"the home agent of {name} has no pool with a home address for it"
            yield (
                _setting(cast, name, Meaning.NAI),
                message,
                f"give {name} a {written}, or its home agent a pool",
            )
