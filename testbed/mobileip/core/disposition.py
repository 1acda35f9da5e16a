"""How the processing of a message ends early: silently, or with a reply code."""

from __future__ import annotations

from testbed.mobileip.wire.code import Code


class Discard(Exception):
    """The message is to be discarded silently; the argument is fit to be a counter's name."""


class Deny(Exception):
    """The request is to be answered with `code`; `why` says more to a person."""

    def __init__(self, code: Code, why: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.why = why
