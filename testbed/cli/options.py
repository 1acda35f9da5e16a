"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.models import ArgumentInfo, OptionInfo

from testbed.cli.complete import complete_evidence, complete_set, complete_topology
from testbed.cli.output import Format
from testbed.errors import ErrorGroup, Source, TestbedError, UsageError, raise_errors

if TYPE_CHECKING:
    from testbed.topology.loaded import LoadedTopology


T = TypeVar("T")


def parsed(option: str, text: str, parse: Callable[[str], T]) -> T:
    """What was typed behind an option, by one of the parsers of topology files. Raises `UsageError`."""
    from testbed.document.values import Expected

    try:
        return parse(text)
    except Expected as error:
        raise UsageError(f"{option} {text}: expected {error.expected}", hint=error.hint) from error


TopologyRef = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE", help="A built-in topology, or a YAML file.", autocompletion=complete_topology
    ),
]


def evidence_argument(metavar: str) -> ArgumentInfo:
    """An argument that names evidence to read."""
    made: ArgumentInfo = typer.Argument(
        metavar=metavar,
        help="The evidence of `verify`, `matrix`, `solutions` or `measure`: a folder, a .zip or a .tar.zst.",
        autocompletion=complete_evidence,
    )
    return made


EvidenceSource = Annotated[Path, evidence_argument("EVIDENCE")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change the topology: network.internet.delay=40ms, node.mn.lifetime=60s, option.stack=mip-only.",
        autocompletion=complete_set,
    ),
]
Engines = Annotated[
    list[str] | None,
    typer.Option(
        "--engine",
        metavar="NAME=ADDRESS",
        help="One of several engines to spread a lab over, by its address or docker context; given once for "
        "each: --engine a=ssh://lab-1 --engine b=tcp://lab-2:2376.",
    ),
]
Templates = Annotated[
    Path | None,
    typer.Option(
        "--templates",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="A folder of your own roles and templates, searched before the built-in one. "
        "Templates can run any code: use only folders that you trust.",
    ),
]


Force = Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")]


def check_target(folder: Path, force: bool) -> None:
    """Raise `UsageError` where a folder is not one to write into; with `force` it may hold something."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a directory")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise UsageError(f"{folder} is not empty", hint="choose another, or overwrite with --force")


def one_of(kind: type[StrEnum], *names: str, help: str) -> OptionInfo:
    """An option whose value is one of a few words."""
    made: OptionInfo = typer.Option(*names, help=help, **_choice(kind, f"{names[0]} "))
    return made


def argument_of(kind: type[StrEnum], help: str) -> ArgumentInfo:
    """An argument that is one of a few words."""
    made: ArgumentInfo = typer.Argument(help=help, **_choice(kind))
    return made


def _choice(kind: type[StrEnum], typed: str = "") -> dict[str, Any]:
    """How one of a few words is shown, completed and read; typer would report Python's own error."""
    words = list(map(str, kind))

    def parse(word: str) -> StrEnum:
        if word in words:
            return kind(word)
        choices = " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
        raise UsageError(f"{typed}{word}: choose {choices}")

    return {
        "metavar": "|".join(words),
        "parser": parse,
        "autocompletion": lambda incomplete: [one for one in words if one.startswith(incomplete)],
    }


Output = Annotated[Format, one_of(Format, "--output", "-o", help="A table for people, JSON for programs.")]


@contextmanager
def reading(evidence: Path) -> Iterator[Path]:
    """The folder to read evidence from; what an archive is unpacked to is removed after a signal, too."""
    from testbed.evidence.archive import opened
    from testbed.lab.interrupt import stoppable

    with stoppable(), opened(evidence) as folder:
        yield folder


def load_typed(topology: str, sets: Sequence[str] | None, templates: Path | None) -> LoadedTopology:
    """Load the topology that the command line names, with its `--set` options. Raises `TestbedError`."""
    from testbed.topology.load import load_topology

    with as_typed(sets):
        return load_topology(topology, sets=sets or (), templates=templates)


@contextmanager
def as_typed(sets: Sequence[str] | None, short: Mapping[str, str] | None = None) -> Iterator[None]:
    """Make errors in `--set` options usage errors; the file itself may be valid.

    `short` has the `--set` texts that stand for other options, and how those were typed.
    """
    typed = {f"--set {one}": f"--set {one}" for one in sets or ()}
    typed |= {f"--set {one}": option for one, option in (short or {}).items()}
    try:
        yield
    except TestbedError as error:
        raise_errors(
            UsageError(one.message, hint=one.hint, source=Source(typed[one.source.file]))
            if one.source and one.source.file in typed
            else one
            for one in (error.errors if isinstance(error, ErrorGroup) else (error,))
        )
