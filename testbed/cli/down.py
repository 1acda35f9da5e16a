"""`testbed down`: remove labs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import all_connections, complete_lab, engine_connection, narrated
from testbed.cli.options import Output
from testbed.cli.output import Format, emit_json, note
from testbed.errors import MachineError, TestbedError, UsageError

if TYPE_CHECKING:
    from testbed.engine.api import Engine


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
    from testbed.engine.joined import JoinedEngine
    from testbed.engine.record import forget
    from testbed.lab.down import Removed, remove_labs
    from testbed.lab.interrupt import Interrupted, stoppable
    from testbed.lab.state import check_mine, nearest_lab, no_answer, others_labs

    if (lab is None) != every:
        raise UsageError("name a lab, or give --all", hint="testbed status lists the labs")
    with _engines(lab) as engines, narrated() as progress, stoppable():
        several = lab is None or names.is_pattern(lab)
        if lab and not several and not all_users:
            check_mine(engines[0], lab)
        owner = names.owner() if several and not all_users else None
        removed = Removed()
        try:
            for engine in engines:
                removed.add(remove_labs(engine, lab, owner=owner, progress=progress))
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted; some of it may be left",
                hint=f"testbed down {shlex.quote(lab) if lab else '--all'}"
                + (" --all-users" if all_users else ""),
            ) from None
        others = [each.name for engine in engines for each in others_labs(engine)] if owner else []
        kept = [each for each in dict.fromkeys(others) if names.matches(each, lab)]
        lost = {
            name: at
            for engine in engines
            if isinstance(engine, JoinedEngine)
            for name, at in engine.lost.items()
        }
        if lab and not (removed or lost):
            forget(lab)  # of an `up` that was killed at its very beginning there may be a note, and no more
        if lab and not (removed or lost or if_exists):
            raise TestbedError(f"there is no lab {lab}", hint=nearest_lab(engines[-1], lab))
    if output is Format.json:
        emit_json({"containers": sorted(removed.containers), "networks": sorted(removed.networks)})
    elif removed:
        note(f"removed {len(removed.containers)} nodes and {len(removed.networks)} networks")
    else:
        note(f"there is no lab {lab}" if lab else "no lab of yours is up" if owner else "no lab is up")
    if lost:
        what = f"lab {lab}" if lab else "your labs"
        raise MachineError(
            f"what {what} may have there is left: {no_answer(lost)}",
            hint=_again(lab),
        )
    if kept:
        note(f"left because they are not known to be yours: {', '.join(kept)}; --all-users takes them too")


@contextmanager
def _engines(lab: str | None) -> Iterator[list[Engine]]:
    """Those that a lab, all labs (None) or the labs of a pattern are on."""
    from testbed.engine.names import is_pattern

    if lab is None or is_pattern(lab):
        with all_connections(lab) as engines:
            yield engines
    else:
        with engine_connection(lab) as engine:
            yield [engine]


def _again(lab: str | None) -> str:
    """What removes the rest, or gives it up."""
    from testbed.engine import names, record

    hint = f"once all answer: testbed down {shlex.quote(lab) if lab else '--all'}"
    if lab and not names.is_pattern(lab):
        hint += f"; if that will never be: rm {shlex.quote(str(record.note(lab)))}"
    return hint
