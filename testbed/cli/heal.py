"""`testbed heal`: what failed works again."""

from __future__ import annotations

from typing import Annotated

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import LabName, complete_link, engine_connection
from testbed.cli.options import Output
from testbed.cli.output import Format, emit, emit_json, note


@command("heal", panel=LABS)
def heal(
    lab: LabName,
    place: Annotated[
        str | None,
        typer.Argument(
            metavar="NODE[/NETWORK]",
            help="What `fail` cut. Default: all that has failed.",
            autocompletion=complete_link,
        ),
    ] = None,
    output: Output = Format.table,
) -> None:
    """Mend links that `fail` cut: packets pass again, and all else is as it was.

    Routing protocols and IPsec take a moment to notice. A mobile node that lost its registration meanwhile
    does not try again by itself: `move` it.
    """
    from testbed.lab.failures import heal as mend
    from testbed.lab.state import find_lab
    from testbed.lab.status import lab_status

    with engine_connection(lab) as engine:
        healed = mend(engine, lab, place)
        found = find_lab(engine, lab)
        mobile = lab_status(engine, found, ask=found.mobile_nodes).mobile
    if output is Format.json:
        emit_json({"lab": lab, "healed": healed})
    else:
        emit(f"healed: {', '.join(healed)}")
    for node, state in mobile.items():
        if state and state.get("state") == "unregistered" and (network := state.get("network")):
            note(f"{node} is unregistered on {network}: testbed move {lab} {node} {network} tries again")
