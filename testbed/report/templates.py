"""The templates beside this file, filled in: undefined names are errors, everything is escaped."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from testbed.report.ladder import arrow_ends


def pixels(value: float) -> str:
    """A measure with one decimal at most."""
    return f"{round(value, 1):g}"


def octets(value: float) -> str:
    """A number of bytes for people."""
    if value < 1000:
        return f"{value:.0f} B"
    return f"{value / 1000:.1f} kB" if value < 1_000_000 else f"{value / 1_000_000:.1f} MB"


@cache
def environment() -> Environment:
    """The environment of all templates here."""
    made = Environment(
        loader=PackageLoader("testbed", "report"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["px"] = pixels
    made.filters["bytes"] = octets
    made.filters["ends"] = arrow_ends
    return made
