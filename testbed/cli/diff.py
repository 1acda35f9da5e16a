"""`testbed diff`: what differs in a running lab from what was rendered."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from testbed.cli.app import LABS, command
from testbed.cli.labs import AnyNodeName, LabName, engine_connection
from testbed.cli.options import Output
from testbed.cli.output import Format, emit_json, emit_text, note
from testbed.errors import ExitCode

if TYPE_CHECKING:
    from testbed.lab.differ import NodeChange


@command("diff", panel=LABS)
def diff(
    lab: LabName,
    node: AnyNodeName = None,
    output: Output = Format.table,
) -> None:
    """Show what differs in running nodes from what was rendered: files, links, addresses, routes, rules,
    nftables and services.

    Files come as `diff -u` prints them; of the rest `-` is gone and `+` was added. What daemons add is no
    difference, nor is where a mobile node is. Exit code 0 if nothing differs, 1 if something does.
    """
    from testbed.lab.differ import find_changes

    with engine_connection(lab) as engine:
        found = find_changes(engine, lab, [node] if node else [])
    changed = {name: each for name, each in found.items() if each.any}
    unknown = {name: each.unknown for name, each in found.items() if each.unknown}
    if output is Format.json:
        nodes = {
            name: {
                **asdict(each),
                "files": [{"path": one.path, "diff": one.unified(name)} for one in each.files],
            }
            for name, each in changed.items()
        }
        emit_json({"lab": lab, "differs": bool(changed), "nodes": nodes, "unknown": unknown})
    else:
        for name, each in changed.items():
            emit_text("\n".join(_lines(name, each)))
        for name, why in unknown.items():
            note(f"{name} cannot be compared: {why}")
    raise typer.Exit(ExitCode.FAILED if changed else ExitCode.OK)


def _lines(node: str, change: NodeChange) -> list[str]:
    lines = [one.unified(node) for one in change.files]
    state = [f"-{one}" for one in change.lost] + [f"+{one}" for one in change.added]
    for word, services in (("stopped", change.stopped), ("paused", change.paused)):
        state += [line for one in services for line in (f"-service {one} up", f"+service {one} {word}")]
    if state:
        lines += [f"--- {node} as configured", f"+++ {node} now", *state]
    return lines
