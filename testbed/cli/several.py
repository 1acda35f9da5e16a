"""What `up --count` prints: a line for each lab of a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from testbed.cli.labs import mobile_nodes
from testbed.cli.output import Format, emit_json, emit_rows, note

if TYPE_CHECKING:
    from testbed.engine.api import Engine
    from testbed.lab.several import Outcome


def report(engine: Engine, outcomes: Sequence[Outcome], output: Format) -> None:
    """Print what became of several labs. Raises `typer.Exit` with the code of the first that failed."""
    from testbed.lab.several import shared_pattern
    from testbed.lab.state import read_labs
    from testbed.lab.status import lab_status

    there = read_labs(engine)
    status = {
        one.lab: lab_status(engine, there[one.lab], ask=there[one.lab].mobile_nodes)
        for one in outcomes
        if one.done and one.lab in there
    }
    if output is Format.json:
        emit_json({"labs": [_facts(one) for one in outcomes]})
    else:
        emit_rows(
            ("LAB", "STATE", "AFTER (s)", "MOBILE NODES"),
            [
                (
                    one.lab,
                    _state(one),
                    f"{one.done.seconds:.1f}" if one.done else "",
                    mobile_nodes(status[one.lab]) if one.lab in status else "",
                )
                for one in outcomes
            ],
        )
    failed = [one for one in outcomes if one.error]
    for one in failed:
        assert one.error is not None
        note(f"{one.lab}: {one.error}")
    ready = sum(one.done is not None for one in outcomes)
    pattern = shared_pattern([one.lab for one in outcomes])
    note(f"\n{ready} of {len(outcomes)} labs are up; testbed status {pattern}, testbed down {pattern}")
    if failed:
        assert failed[0].error is not None
        raise typer.Exit(failed[0].error.exit_code)


def _state(one: Outcome) -> str:
    if one.error:
        return "failed"
    if one.done is None:
        return "not tried"
    return "ready" if not one.done.no_data else "up, without data"


def _facts(one: Outcome) -> dict[str, Any]:
    facts: dict[str, Any] = {"lab": one.lab, "state": _state(one)}
    if one.done:
        facts |= {"seconds": round(one.done.seconds, 3), "created": one.done.created}
        facts |= {"no_data": dict(one.done.no_data)}
    return facts | ({"error": one.error.to_dict()} if one.error else {})
