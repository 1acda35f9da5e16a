"""The templates beside this file, filled in: undefined names are errors, everything is escaped."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


def pixels(value: float) -> str:
    """A measure with one decimal at most."""
    return f"{round(value, 1):g}"


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
    return made
