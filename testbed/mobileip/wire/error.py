"""The one error of this package."""

from __future__ import annotations


class WireError(Exception):
    """A message that cannot be read.

    `reason` is one of a few fixed words, fit to be a counter's name; `detail` says more to a person.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
