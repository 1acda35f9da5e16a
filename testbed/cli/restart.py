"""`testbed restart`: services of a node started again, with what was edited in their files."""

from __future__ import annotations

from typing import Annotated

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import LabName, NodeName, complete_service, engine_connection, narrated
from testbed.cli.options import Output
from testbed.cli.output import Format, emit_json, emit_rows


@command("restart", panel=LABS)
def restart_(
    lab: LabName,
    node: NodeName,
    services: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SERVICE",
            help="Services of the node, and nftables for its rules. Default: all of them.",
            autocompletion=complete_service,
        ),
    ] = None,
    output: Output = Format.table,
) -> None:
    """Start services of a node again, so that they read their files anew, and wait until they are ready.

    Edit a file in the node (`testbed shell LAB NODE`), then restart the service that reads it. With nftables
    the rules of the node's files replace those that it had from them; where a file has a mistake, the old
    rules stay. What a service had learned, such as bindings and security associations, is gone. Exit code 1
    if a service ends again, 5 if one is not ready in time.
    """
    from testbed.agreed import ROAM
    from testbed.lab.daemons import ask_all
    from testbed.lab.describe import describe
    from testbed.lab.restart import restart
    from testbed.lab.state import find_lab

    with engine_connection(lab) as engine, narrated() as progress:
        container = find_lab(engine, lab).running_node(node)
        progress.show(f"restarting {', '.join(services or ['all services'])} of {node}")
        done = restart(engine, container, node, services or ())
        states = ask_all(engine, container) if any(each.seconds is not None for each in done) else {}
    says = {each.service: describe(each.service, states.get(each.service, {})) for each in done}
    if ROAM in states and ROAM not in says:
        says[ROAM] = describe(ROAM, states[ROAM])
    if output is Format.json:
        up = {each.service: {"ready_after_s": each.seconds, "says": says[each.service]} for each in done}
        emit_json({"lab": lab, "node": node, "services": up})
        return
    emit_rows(
        ("SERVICE", "READY AFTER (s)", "SAYS"),
        [
            (each.service, "-" if each.seconds is None else f"{each.seconds:.2f}", says[each.service])
            for each in done
        ],
    )
