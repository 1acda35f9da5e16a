"""How a long operation reports what it does; the command line shows it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Takes texts from any thread."""

    def say(self, text: str) -> None:
        """Tell something that stays on the screen."""
        ...

    def show(self, text: str) -> None:
        """Tell what goes on right now; the next text replaces it."""
        ...


class Silent:
    """Tells nobody."""

    def say(self, text: str) -> None:
        """Ignore it."""

    def show(self, text: str) -> None:
        """Ignore it."""
