"""`testbed fail`: a link or a node of a running lab fails."""

from __future__ import annotations

from typing import Annotated

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import LabName, complete_link, engine_connection
from testbed.cli.options import Output
from testbed.cli.output import Format, as_called, emit, emit_json, note


@command("fail", panel=LABS)
def fail(
    lab: LabName,
    place: Annotated[
        str,
        typer.Argument(
            metavar="NODE[/NETWORK]",
            help="A node's link to a network, or a node with all its links.",
            autocompletion=complete_link,
        ),
    ],
    output: Output = Format.table,
) -> None:
    """Cut a link of a node, or all links of a node, as when a cable is pulled out of a switch.

    No packet passes there until `heal`, or `up`, mends it. The interface stays up with its addresses and
    routes, and daemons run on: they find out by silence. `status` shows what has failed. A capture of that
    node or link alone still has what comes as far as the cut.
    """
    from testbed.lab.failures import fail as cut

    with engine_connection(lab) as engine:
        failed = cut(engine, lab, place)
    if output is Format.json:
        emit_json({"lab": lab, "failed": failed})
    else:
        emit(f"failed: {', '.join(failed)}")
        note(as_called(f"testbed heal {lab} {place} mends it"))
