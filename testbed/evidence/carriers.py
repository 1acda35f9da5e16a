"""What carried packets in labs, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def by_kind(labs: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What did the work of each kind of service, over all labs: `esp` → `kernel-libipsec (userspace)`."""
    found: dict[str, dict[str, None]] = {}
    for carriers in labs:
        for place, carrier in carriers.items():
            found.setdefault(place.rpartition("/")[2], {})[carrier] = None
    return {kind: ", ".join(carriers) for kind, carriers in found.items()}


def sentence(labs: Iterable[Mapping[str, str]]) -> str:
    """The same in one line; empty where nothing is known."""
    kinds = "; ".join(f"{kind} {by}" for kind, by in by_kind(labs).items())
    return f"packets were carried by: {kinds}" if kinds else ""
