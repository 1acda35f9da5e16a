"""The Mobile Node NAI Extension (RFC 2794 §2) and the form of a Network Access Identifier (RFC 2486 §2)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from testbed.mobileip.wire.authentication import AUTHENTICATION_TYPES
from testbed.mobileip.wire.error import WireError
from testbed.mobileip.wire.extension import Extension

TYPE = 131
LONGEST = 255
"""Bytes that the extension has room for."""

_STRING = r"""(?:[^\x00-\x20\x7f<>()\[\]\\.,;:@"]|\\[\x00-\x7f])+"""
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REALM = rf"@{_LABEL}(?:\.{_LABEL})+"
_NAI = rf"{_STRING}(?:\.{_STRING})*(?P<realm>{_REALM})?"


def check(nai: str, realm: bool = False) -> None:
    """Whether `nai` has the form of one, and a realm if it must. Raises ValueError."""
    # Compiled when there is an NAI, and kept by `re`: it takes longer than to import this module.
    found = re.fullmatch(_NAI, nai, re.ASCII | re.DOTALL) if nai.isascii() else None
    if found is None or len(nai) > LONGEST or (realm and found["realm"] is None):
        raise ValueError(f"expected a network access identifier such as mn@example.net, not {nai!r}")


def encode(nai: str) -> Extension:
    """The extension."""
    return Extension(TYPE, nai.encode("ascii"))


def nai_of(extensions: Iterable[Extension]) -> str | None:
    """The NAI in a message; None without. Raises WireError "nai" for what has not its form.

    Only what precedes the first authentication is taken.
    """
    for extension in extensions:
        if extension.type in AUTHENTICATION_TYPES:
            return None
        if extension.type == TYPE:
            try:
                nai = extension.data.decode("ascii")
                check(nai)
            except ValueError as error:  # UnicodeDecodeError is one
                raise WireError("nai", f"extension {TYPE} at {extension.offset}") from error
            return nai
    return None


def nai_if_readable(extensions: Iterable[Extension]) -> str | None:
    """The NAI in a message; None also for what has not its form."""
    try:
        return nai_of(extensions)
    except WireError:
        return None


def in_place(extensions: Iterable[Extension]) -> bool:
    """Whether there is at most one NAI, and none after an authentication (RFC 2794 §2)."""
    kinds = [each.type for each in extensions if each.type == TYPE or each.type in AUTHENTICATION_TYPES]
    return TYPE not in kinds[1:]
