"""What becomes of the effects of an agent: kept, carried out by the kernel, and only then sent to anybody."""

from __future__ import annotations

from collections.abc import Callable

from testbed.mobileip.core.api import (
    Effect,
    GratuitousArp,
    Refused,
    Remember,
    ReportEvent,
    SendAgentMessage,
    SendDatagram,
    SendOnHomeLink,
)
from testbed.mobileip.io.role import Role
from testbed.mobileip.io.store import Store

MESSAGES = frozenset((ReportEvent, SendDatagram, SendAgentMessage, SendOnHomeLink, GratuitousArp))
"""Effects that change nothing in this node."""
_UNCHANGING = MESSAGES | {Remember}
Failed = Callable[[str, Exception], None]
"""Called with the name of an effect that could not be carried out, and why."""


def settle(
    effects: list[Effect], role: Role, store: Store | None, refused: Refused, failed: Failed
) -> list[Effect]:
    """Keep what is to be remembered, then change what the kernel has; returns the messages that follow.

    Where either fails, `refused` says what follows instead: a grant becomes a denial (RFC 5944 §3.4).
    """
    messages: list[Effect] = []
    while effects:
        if store is not None:
            effects, failure = store.keep(effects, refused)
            if failure is not None:
                failed(Remember.__name__, failure)
        changes = {at: each for at, each in enumerate(effects) if type(each) not in _UNCHANGING}
        refusals = role.carry_out(changes) if changes else {}
        for at, error in refusals.items():
            failed(type(effects[at]).__name__, error)
        instead: list[Effect] = []
        if refusals:
            effects, instead = refused(effects, {at: str(error) for at, error in refusals.items()})
        messages += [each for each in effects if type(each) in MESSAGES]
        effects = instead
    return messages
