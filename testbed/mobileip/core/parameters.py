"""What the state machines must know before they start; the shell reads it from the node's TOML file.

What is of one of them alone is in `home.config`, `foreign.config` and `mobile.config`. All durations are
seconds, all lifetimes whole seconds of 1 to 65535, where 65535 means for ever (RFC 5944 §3.3). A value that
cannot work raises ValueError with a message that names it.
"""

from __future__ import annotations

from enum import Enum

from testbed.mobileip.wire.encapsulation import Encapsulation
from testbed.mobileip.wire.value import value

INFINITE_LIFETIME = 0xFFFF
ALTERNATIVES = (Encapsulation.GRE, Encapsulation.MINIMAL)
"""What agents support beside IP in IP, unless their configuration says otherwise."""


def require(condition: bool, message: str) -> None:
    """Raise ValueError with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def require_lifetime(name: str, value: int) -> None:
    """Raise ValueError for a lifetime that has no room in 16 bits."""
    require(1 <= value <= INFINITE_LIFETIME, f"{name} must be 1 to 65535 seconds, not {value}")


def require_port(value: int) -> None:
    """Raise ValueError for what is no UDP port."""
    require(1 <= value <= 0xFFFF, f"port must be 1 to 65535, not {value}")


def require_keepalive(value: int) -> None:
    """Raise ValueError for an interval, in seconds, that no keepalive may have (RFC 3519 §4.10)."""
    require(10 <= value <= 0xFFFF, f"keepalive must be 10 to 65535 seconds, not {value}")


class ReverseTunnel(Enum):
    """How an agent treats the T bit of a request (RFC 3024 §4.2, §4.3)."""

    REFUSED = "refused"  # codes 74, 137
    OFFERED = "offered"
    REQUIRED = "required"  # codes 75, 138


@value
class Advertising:
    """How agent advertisements are sent on one link (RFC 5944 §2.3, RFC 1256 §4.1)."""

    interval: float = 1.0
    """At most this long between two multicast advertisements (three quarters of it at least)."""
    lifetime: int = 3
    """How long an advertisement is valid; at least three times the interval is advised."""

    def __post_init__(self) -> None:
        require(
            self.interval >= 0.05, f"the advertisement interval must be at least 0.05 s, not {self.interval}"
        )
        require_lifetime("the advertisement lifetime", self.lifetime)
        require(
            self.lifetime >= self.interval, "the advertisement lifetime must not be shorter than the interval"
        )
