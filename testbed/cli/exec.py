"""`testbed exec`: a command in a node."""

from __future__ import annotations

from typing import Annotated

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import LabName, NodeName, engine_connection
from testbed.errors import UsageError


@command("exec", panel=LABS, context_settings={"allow_interspersed_args": False})
def execute(
    lab: LabName,
    node: NodeName,
    arguments: Annotated[
        list[str], typer.Argument(metavar="COMMAND", help="The command and its arguments, after --.")
    ],
) -> None:
    """Run a command in a node; ends with the command's exit code.

    Standard input is passed on; with a terminal at both ends the command gets one too.
    """
    from testbed.lab.execute import run_here
    from testbed.lab.state import find_lab

    if arguments[0] == "--":  # kept by the parser, which leaves alone all that follows the first argument
        arguments = arguments[1:]
    if not arguments:
        raise UsageError("no command given", hint=f"testbed exec {lab} {node} -- COMMAND")
    with engine_connection(lab) as engine:
        raise typer.Exit(run_here(engine, find_lab(engine, lab).running_node(node), arguments))
