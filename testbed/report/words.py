"""Small things that several drawings need: words for roles, lines of text, bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from testbed.topology.roles import Drawn, Role


def role_words(names: Sequence[str], roles: Mapping[str, Role]) -> str:
    """The roles of a node in words as their manifests say, the particular ones first."""
    drawn = {name: roles[name].drawing if name in roles else Drawn() for name in names}
    ordered = sorted(names, key=lambda name: drawn[name].last)
    return ", ".join(
        drawn[name].label or name.replace("-", " ") for name in ordered if not drawn[name].hidden
    )


def clamp(value: float, low: float, high: float) -> float:
    """The value, or the bound it is beyond; the middle where the bounds are crossed."""
    return (low + high) / 2 if low > high else min(max(value, low), high)


def wrap(text: str, width: int) -> list[str]:
    """Words in lines of a width, broken at spaces only."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return [line for line in lines if line]
