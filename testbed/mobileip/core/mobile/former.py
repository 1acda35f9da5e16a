"""Care-of addresses that a mobile node keeps registered beside the present one (RFC 5944 §3.6.1.2, S bit).

So nothing is lost on a move: what is on its way to the former place still arrives there. After a while each
is given back, because until then the home agent sends a copy of every datagram to all of them.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from testbed.mobileip.core.api import FormerTunnel, TunnelEnd
from testbed.mobileip.core.mobile.path import Path, Sent
from testbed.mobileip.core.timers import Timers
from testbed.mobileip.wire.code import Code
from testbed.mobileip.wire.registration_reply import RegistrationReply
from testbed.mobileip.wire.registration_request import RequestFlag

TIMER = "drop"
"""When the next is to be given back."""


class FormerBindings:
    """By care-of address; `overlap` is how many seconds each is kept, 0 none at all."""

    def __init__(self, overlap: float, timers: Timers[str]) -> None:
        self.dropping: Path | None = None
        """Which is being given back."""
        self.refused = False
        """Whether the home agent has too many already (code 135)."""
        self._overlap = overlap
        self._timers = timers
        self._paths: dict[IPv4Address, tuple[Path, TunnelEnd | None]] = {}

    @property
    def overlaps(self) -> bool:
        """Whether any is kept."""
        return self._overlap > 0

    def __bool__(self) -> bool:
        return bool(self._paths)

    @property
    def care_of_addresses(self) -> tuple[IPv4Address, ...]:
        """Of all that are kept, the oldest first."""
        return tuple(self._paths)

    @property
    def tunnels(self) -> tuple[FormerTunnel, ...]:
        """Those that end at this node."""
        return tuple(
            FormerTunnel(care_of, end) for care_of, (_, end) in self._paths.items() if end is not None
        )

    def beside(self, present: Path | None, path: Path) -> bool:
        """Whether a request over `path` is to leave what is registered, over `present`, as it is."""
        if not self._overlap or self.refused or present is None or "home" in (present.mode, path.mode):
            return False
        return bool(self) or present.care_of_address != path.care_of_address

    def accepted(
        self, sent: Sent, reply: RegistrationReply, present: Path | None, end: TunnelEnd | None, now: float
    ) -> None:
        """Note what the home agent has beside what it has granted by `reply`.

        It was registered over `present`; `end` is the home agent's of a tunnel to this node itself.
        """
        if not sent.flags & RequestFlag.SIMULTANEOUS or reply.code == Code.ACCEPTED_NO_SIMULTANEOUS:
            self.clear()
            return
        care_of = sent.path.care_of_address
        if present is not None and present.care_of_address != care_of:
            self._paths[present.care_of_address] = present, end
            if TIMER not in self._timers:
                self._timers.set(TIMER, now + self._overlap)
        self.remove(care_of, now)

    def revoked(self, care_of: IPv4Address) -> bool:
        """The home agent has it no more (RFC 3543); whether it was kept.

        One that is being given back awaits its reply all the same.
        """
        kept = self._paths.pop(care_of, None) is not None
        if not self._paths:
            self._timers.cancel(TIMER)
        return kept

    def remove(self, care_of: IPv4Address, now: float) -> None:
        """It is registered anew, or given back."""
        self._paths.pop(care_of, None)
        self.dropping = None
        if not self._paths:
            self._timers.cancel(TIMER)
        elif TIMER not in self._timers:
            self._timers.set(TIMER, now)

    def next(self) -> Path | None:
        """The next to be given back."""
        return next((path for path, _ in self._paths.values()), None)

    def clear(self) -> None:
        """The home agent has none of them any more."""
        self._paths.clear()
        self.dropping, self.refused = None, False
        self._timers.cancel(TIMER)
