"""The effects a state machine has asked for and its shell has not yet fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from testbed.mobileip.core.api import Effect, ReportEvent

Withdraw = Callable[[str], None]
"""Takes a grant back and denies it instead, for the reason that is given."""


class Outbox:
    """Effects in order, and which of them grant something."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self._grants: list[tuple[int, int, Withdraw]] = []
        self._drained: list[tuple[int, int, Withdraw]] = []

    def __len__(self) -> int:
        """How many effects there are."""
        return len(self._effects)

    def add(self, *effects: Effect) -> None:
        """One or more effects."""
        self._effects.extend(effects)

    def event(self, name: str, **fields: str | int | float | bool | None) -> None:
        """A ReportEvent effect."""
        self._effects.append(ReportEvent(name, fields))

    def granted(self, start: int, withdraw: Withdraw) -> None:
        """What was added since there were `start` effects belongs to a grant that `withdraw` takes back."""
        self._grants.append((start, len(self._effects), withdraw))

    def drain(self) -> list[Effect]:
        """All effects since the last call."""
        effects, self._effects = self._effects, []
        self._drained, self._grants = self._grants, []
        return effects

    def withdraw(self, effects: Sequence[Effect], why: str) -> list[Effect]:
        """What to do instead of `effects`, just drained: nothing is granted, and what was is denied."""
        grants, self._drained = self._drained, []
        spans = [(start, end) for start, end, _ in grants]
        left = [each for at, each in enumerate(effects) if not any(a <= at < b for a, b in spans)]
        for *_, withdraw in reversed(grants):  # the first knows what was before them all
            withdraw(why)
        return [*left, *self.drain()]
