"""The application that every command file adds its command to.

A command file imports `command` and decorates its function: `@command("up", panel=LABS)`. Whatever is slow to
import (the engine, pydantic, Jinja) it imports inside the function, so that `--help` stays quick.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from testbed.cli.output import commands, verbosity

TOPOLOGIES = "Topologies (no engine needed)"
LABS = "Labs"
CLAIMS = "Claims"
LESSONS = "Lessons"
MACHINE = "This machine"

_Function = TypeVar("_Function", bound=Callable[..., None])

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors on stderr.")]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, show_default=False, help="Say more on stderr; twice for tracebacks."
    ),
]


class PlainCommand(TyperCommand):
    """A command whose flags, which take no value, show none in `--help`."""

    def get_params(self, ctx: Any) -> Any:
        """The parameters, `--help` among them."""
        return _plain(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """The same of the options before a command."""

    def get_params(self, ctx: Any) -> Any:
        """The parameters, `--help` among them."""
        return _plain(super().get_params(ctx))


def _plain(parameters: list[Any]) -> list[Any]:
    for one in parameters:
        if getattr(one, "is_flag", False) or getattr(one, "count", False):
            one.metavar = ""  # or typer shows `<bool>` and `<int>`
    return parameters


app = typer.Typer(
    name="testbed",
    cls=PlainGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def set_verbosity(quiet: bool, verbose: int) -> None:
    """Apply -q and -v, which may come before the command's name, after it, or both."""
    if quiet:
        verbosity.level = -1
    elif verbose:
        verbosity.level = max(verbosity.level, verbose)


def group(name: str, *, panel: str, help: str) -> typer.Typer:
    """Add a command to the application that has commands of its own."""
    made = typer.Typer(
        cls=PlainGroup, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
    )

    @made.callback()
    def common(quiet: Quiet = False, verbose: Verbose = 0) -> None:
        set_verbosity(quiet, verbose)

    commands.add(name)
    app.add_typer(made, name=name, rich_help_panel=panel, help=help)
    return made


def command(
    name: str,
    *,
    panel: str | None = None,
    context_settings: Mapping[str, Any] | None = None,
    of: typer.Typer | None = None,
) -> Callable[[_Function], _Function]:
    """Add a function to the application, or to a `group` of it, as a command that also takes -q and -v."""

    def register(function: _Function) -> _Function:
        @functools.wraps(function)
        def run(*args: Any, quiet: bool, verbose: int, **kwargs: Any) -> None:
            set_verbosity(quiet, verbose)
            function(*args, **kwargs)

        hints = get_type_hints(function, include_extras=True)
        own = [
            parameter.replace(annotation=hints[parameter.name])
            for parameter in inspect.signature(function).parameters.values()
        ]
        common = [
            inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet),
            inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=0, annotation=Verbose),
        ]
        run.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
        run.__annotations__ = {**hints, "quiet": Quiet, "verbose": Verbose}
        settings = dict(context_settings) if context_settings else None
        # Each paragraph as one line: the terminal breaks it where it ends, not also where the source does.
        paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
        text = "\n\n".join(one.replace("\n", " ") for one in paragraphs)
        if of is None:
            commands.add(name)
        (of or app).command(
            name, cls=PlainCommand, rich_help_panel=panel, context_settings=settings, help=text
        )(run)
        return function

    return register
