"""`testbed down`: remove labs."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import complete_lab, engine_connection, narrated
from testbed.cli.options import Output
from testbed.cli.output import Format, emit_json, note
from testbed.errors import TestbedError, UsageError


@command("down", panel=LABS)
def down(
    lab: Annotated[
        str | None,
        typer.Argument(
            metavar="LAB",
            help="The lab's name, or a pattern of names ('student-*').",
            autocompletion=complete_lab,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every lab of yours on this engine.")] = False,
    all_users: Annotated[
        bool, typer.Option("--all-users", help="Other users' labs too, on a shared engine.")
    ] = False,
    if_exists: Annotated[
        bool, typer.Option("--if-exists", help="Exit code 0 also if there is no such lab.")
    ] = False,
    output: Output = Format.table,
) -> None:
    """Remove a lab, or a class, whatever state it is in; neither a topology file nor anything else is needed.

    A lab belongs to the USER@HOST that brought it up, or to its $TESTBED_OWNER; labs of others stay. Exit
    code 1 if there is no such lab.
    """
    from testbed.engine import names
    from testbed.lab.down import remove_labs
    from testbed.lab.interrupt import Interrupted, stoppable
    from testbed.lab.state import check_mine, nearest_lab, others_labs

    if (lab is None) != every:
        raise UsageError("name a lab, or give --all", hint="testbed status lists the labs")
    with engine_connection() as engine, narrated() as progress, stoppable():
        several = every or names.is_pattern(lab or "")
        if lab and not several and not all_users:
            check_mine(engine, lab)
        try:
            owner = names.owner() if several and not all_users else None
            removed = remove_labs(engine, lab, owner=owner, progress=progress)
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted; some of it may be left",
                hint=f"testbed down {shlex.quote(lab) if lab else '--all'}"
                + (" --all-users" if all_users else ""),
            ) from None
        kept = [each.name for each in others_labs(engine) if names.matches(each.name, lab)] if owner else []
        if lab and not removed and not if_exists:
            raise TestbedError(f"there is no lab {lab}", hint=nearest_lab(engine, lab))
    if output is Format.json:
        emit_json({"containers": sorted(removed.containers), "networks": sorted(removed.networks)})
    elif removed:
        note(f"removed {len(removed.containers)} nodes and {len(removed.networks)} networks")
    else:
        note(f"there is no lab {lab}" if lab else "no lab of yours is up" if owner else "no lab is up")
    if kept:
        note(f"left because they are not known to be yours: {', '.join(kept)}; --all-users takes them too")
