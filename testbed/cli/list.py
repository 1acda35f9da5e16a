"""`testbed list`: the built-in topologies."""

from __future__ import annotations

from testbed.cli.app import TOPOLOGIES, command
from testbed.cli.options import Output
from testbed.cli.output import Format, emit_json, emit_rows


@command("list", panel=TOPOLOGIES)
def list_topologies(output: Output = Format.table) -> None:
    """List the built-in topologies."""
    from testbed.topology.load import builtin_topologies, load_topology

    loaded = {name: load_topology(name) for name in builtin_topologies()}
    if output is Format.json:
        keys = {"title", "source", "summary"}
        emit_json(
            {
                "topologies": [
                    {"name": name, **one.topology.model_dump(include=keys), "file": one.file}
                    for name, one in loaded.items()
                ]
            }
        )
    else:
        rows = [(name, one.topology.title, one.topology.source) for name, one in loaded.items()]
        emit_rows(("NAME", "TITLE", "SOURCE"), rows)
