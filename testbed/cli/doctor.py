"""`testbed doctor`: what this machine can do, and what to do about what it cannot."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from testbed.cli.app import MACHINE, command
from testbed.cli.options import Engines, Output
from testbed.cli.output import Format, as_called, emit_json, emit_rows, note
from testbed.errors import ExitCode, UsageError


@command("doctor", panel=MACHINE)
def doctor(
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="Install and start the engine and build the node image where missing (root)."
        ),
    ] = False,
    tests: Annotated[bool, typer.Option("--tests", help="Also what the test suite uses.")] = False,
    engines: Engines = None,
    output: Output = Format.table,
) -> None:
    """Try the engine, what its containers may do, images and addresses. Exit code 3 if something FAILs.

    With --engine, given for each, the way between several engines is tried instead.
    """
    from testbed.lab.doctor import Level, examine
    from testbed.lab.doctor_engines import examine_engines

    if engines and tests:
        raise UsageError("--tests is about this machine, --engine about the way between others")
    found = examine_engines(engines, note, fix=fix) if engines else examine(note, fix=fix, tests=tests)
    checks = list(found)
    healthy = all(check.level is not Level.FAIL for check in checks)
    if output is Format.json:
        emit_json({"healthy": healthy, "checks": [asdict(check) for check in checks]})
    else:
        emit_rows(
            ("CHECK", "", "FOUND, AND WHAT TO DO"),
            [
                (
                    check.name,
                    check.level,
                    f"{check.detail}\n→ {as_called(check.fix)}" if check.fix else check.detail,
                )
                for check in checks
            ],
        )
    if not healthy:
        raise typer.Exit(ExitCode.ENVIRONMENT)
