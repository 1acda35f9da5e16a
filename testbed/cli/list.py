"""`testbed list`: the built-in topologies."""

from __future__ import annotations

import json
from typing import Annotated

from testbed.cli.app import TOPOLOGIES, command
from testbed.cli.options import one_of
from testbed.cli.output import CiFormat, emit_json, emit_rows, emit_text


@command("list", panel=TOPOLOGIES)
def list_topologies(
    output: Annotated[
        CiFormat,
        one_of(
            CiFormat,
            "--output",
            "-o",
            help="A table for people, JSON for programs, the matrix of a GitHub job: what `matrix` decides.",
        ),
    ] = CiFormat.table,
) -> None:
    """List the built-in topologies."""
    from testbed.experiment.claims.plan import choose_scenarios
    from testbed.topology.load import builtin_topologies, load_topology

    if output is CiFormat.github:
        scenarios = [
            {"scenario": one.loaded.name, "title": one.loaded.topology.title, "claims": len(one.claims)}
            for one in choose_scenarios()
        ]
        emit_text(json.dumps({"include": scenarios}, ensure_ascii=False))
        return
    loaded = {name: load_topology(name) for name in builtin_topologies()}
    if output is CiFormat.json:
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
