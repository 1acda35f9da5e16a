"""`testbed reset`: nodes of a running lab put back to what was rendered."""

from __future__ import annotations

from testbed.cli.app import LABS, command
from testbed.cli.labs import AnyNodeName, LabName, engine_connection, narrated
from testbed.cli.options import Output
from testbed.cli.output import Format, emit_json, note


@command("reset", panel=LABS)
def reset(
    lab: LabName,
    node: AnyNodeName = None,
    output: Output = Format.table,
) -> None:
    """Put back what `testbed diff` shows: nodes that differ from what was rendered are made anew.

    What differs is printed first. The lab keeps its options, which `testbed up --reset` takes from its file.
    A node made anew has lost what its daemons knew, such as bindings. Exit code 2 if the topology file has
    changed since: `testbed up` applies that.
    """
    from testbed.lab.reset import reset_lab

    with engine_connection(lab) as engine, narrated() as progress:
        done = reset_lab(engine, lab, [node] if node else [], progress=progress)
    if output is Format.json:
        emit_json({"lab": lab, "created": done.created, "mended": done.mended, "no_data": dict(done.no_data)})
    elif not done.changed:
        note(f"{node or f'lab {lab}'} is as it was rendered, nothing to do")
    else:
        note(f"{node or f'lab {lab}'} is as it was rendered again, after {done.seconds:.1f} s")
        for mobile, why in done.no_data.items():
            note(f"{mobile} does not reach its correspondent ({why})")
