"""What a mobile node does about replies that refuse (RFC 5944 §3.6.2.3, RFC 3024 §4.1.2)."""

from __future__ import annotations

from dataclasses import replace

from testbed.mobileip.core.mobile.path import Path, Sent
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.registration_reply import RegistrationReply

CHALLENGED = (Code.FA_UNKNOWN_CHALLENGE, Code.FA_MISSING_CHALLENGE, Code.FA_STALE_CHALLENGE)
"""Another challenge helps, which is in the reply or has to be asked for (RFC 4721 §3.5)."""
_REPAIRABLE = frozenset(
    (
        Code.HA_IDENTIFICATION_MISMATCH,
        Code.HA_UNKNOWN_HOME_AGENT,
        Code.FA_LIFETIME_TOO_LONG,
        *CHALLENGED,
    )
)
_ENCAPSULATION_UNAVAILABLE = frozenset(
    (
        Code.FA_ENCAPSULATION_UNAVAILABLE,
        Code.HA_ENCAPSULATION_UNAVAILABLE,
        Code.HA_UDP_ENCAPSULATION_UNAVAILABLE,
    )
)


def repairable(sent: Sent, reply: RegistrationReply) -> bool:
    """Whether a request that is better by what `reply` reports may be granted."""
    return reply.code in _REPAIRABLE or asking_for_less(sent, reply) is not None


def asking_for_less(sent: Sent, reply: RegistrationReply) -> Path | None:
    """The way of a request with which what `reply` refuses is not asked for any more (RFC 3024 §4.1.2).

    None where a refusal is not about that.
    """
    if reply.code == Code.FA_LIFETIME_TOO_LONG and 0 < reply.lifetime < sent.lifetime:
        return replace(sent.path, lifetime_limit=reply.lifetime)
    if sent.alternative and reply.code in _ENCAPSULATION_UNAVAILABLE:
        return replace(sent.path, encapsulations=())
    if sent.encapsulating and reply.code == Code.FA_DELIVERY_STYLE_NOT_SUPPORTED:
        return replace(sent.path, encapsulating=False)
    return None
