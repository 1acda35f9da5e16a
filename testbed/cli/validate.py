"""`testbed validate`: check topology files."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from testbed.cli.app import TOPOLOGIES, command
from testbed.cli.complete import complete_topology
from testbed.cli.errors import show_error
from testbed.cli.options import Output, Sets, Templates, load_typed
from testbed.cli.output import Format, emit_json, emit_text
from testbed.errors import ErrorGroup, ExitCode, TestbedError


@command("validate", panel=TOPOLOGIES)
def validate(
    files: Annotated[
        list[str],
        typer.Argument(metavar="NAME|FILE", help="Topologies.", autocompletion=complete_topology),
    ],
    sets: Sets = None,
    templates: Templates = None,
    output: Output = Format.table,
) -> None:
    """Check topology files and report every error with its place. Exit code 4 if any is invalid."""
    results: list[dict[str, Any]] = []
    codes: set[ExitCode] = set()
    for file in files:
        result: dict[str, Any] = {"file": file, "valid": True, "errors": []}
        try:
            load_typed(file, sets, templates)
        except TestbedError as error:
            result |= {"valid": False, "errors": [one.to_dict() for one in _flat(error)]}
            codes.add(error.exit_code)
            if output is Format.table:
                show_error(error)
        else:
            if output is Format.table:
                emit_text(f"{file}: ok")
        results.append(result)
    if output is Format.json:
        emit_json({"files": results})
    if codes:
        raise typer.Exit(max(codes))


def _flat(error: TestbedError) -> tuple[TestbedError, ...]:
    return error.errors if isinstance(error, ErrorGroup) else (error,)
