"""`testbed shell`: a shell in a node."""

from __future__ import annotations

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import LabName, NodeName, engine_connection


@command("shell", panel=LABS)
def shell(lab: LabName, node: NodeName) -> None:
    """Run a shell in a node, in this terminal or fed from standard input."""
    from testbed.lab.execute import shell_here
    from testbed.lab.state import find_lab

    with engine_connection(lab) as engine:
        raise typer.Exit(shell_here(engine, find_lab(engine, lab).running_node(node)))
