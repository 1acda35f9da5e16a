"""How a long operation reports what it does; the command line shows it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Takes texts from any thread."""

    def say(self, text: str) -> None:
        """Print a line, which stays on the screen."""
        ...

    def show(self, text: str) -> None:
        """Show what goes on at this time; the next text replaces it."""
        ...


class Silent:
    """Prints nothing."""

    def say(self, text: str) -> None:
        """Ignore it."""

    def show(self, text: str) -> None:
        """Ignore it."""
