"""The effects a state machine has asked for and its shell has not yet fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from testbed.mobileip.core.api import Effect, Remember, ReportEvent

Withdraw = Callable[[str, bool], None]
"""Takes a grant back and denies it instead: for what reason, and whether there is something to undo."""


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

    def withdraw(
        self, effects: Sequence[Effect], refused: Mapping[int, str]
    ) -> tuple[list[Effect], list[Effect]]:
        """What remains of `effects`, just drained, and what to do besides: what was granted is denied.

        `refused` has the positions of those that could not be carried out, and why; only their grants are
        taken back. Before a Remember nothing else of its grant was carried out: there is nothing to undo.
        """
        grants, self._drained = self._drained, []
        withdrawn = []
        left: list[Effect] = []
        done = 0
        for start, end, withdraw in grants:
            failed = next((at for at in range(start, end) if at in refused), None)
            if failed is not None:
                withdrawn.append((withdraw, refused[failed], not isinstance(effects[failed], Remember)))
                left += effects[done:start]
                done = end
        left += effects[done:]
        for withdraw, why, undo in reversed(withdrawn):  # the first knows what was before them all
            withdraw(why, undo)
        return left, self.drain()
