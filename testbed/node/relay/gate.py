"""The gate of the hub: a packet crosses only as the relay says, and not at all while there is no relay.

A rule sends what comes in from the hub network to a table of its own.  The table ends in a blackhole, which
the route to the relay's TUN device overrides while the relay runs.  The node starts with the rule and the
blackhole (`/etc/testbed/gate`), and the relay removes the rule once the kernel impairs the packets by itself
or no impairment is set.
"""

from __future__ import annotations

from contextlib import suppress

from testbed.agreed import HUB_PREFERENCE, HUB_TABLE
from testbed.node.relay.spawn import CommandError, run


async def hold(interface: str) -> None:
    """Let what comes in by `interface` cross the hub through the table only."""
    with suppress(CommandError):  # the rule is there
        await run("ip", "rule", "add", *_rule(interface))


async def let_pass(interface: str) -> None:
    """Let what comes in by `interface` cross the hub by the main table."""
    with suppress(CommandError):  # the rule is not there
        await run("ip", "rule", "del", *_rule(interface))


def _rule(interface: str) -> tuple[str, ...]:
    return ("iif", interface, "lookup", str(HUB_TABLE), "pref", str(HUB_PREFERENCE))
