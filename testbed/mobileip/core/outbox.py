"""The effects a state machine has asked for and its shell has not yet fetched."""

from __future__ import annotations

from testbed.mobileip.core.api import Effect, ReportEvent


class Outbox:
    """Effects in order."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []

    def add(self, *effects: Effect) -> None:
        """One or more effects."""
        self._effects.extend(effects)

    def event(self, name: str, **fields: str | int | float | bool | None) -> None:
        """A ReportEvent effect."""
        self._effects.append(ReportEvent(name, fields))

    def drain(self) -> list[Effect]:
        """All effects since the last call."""
        effects, self._effects = self._effects, []
        return effects
